"""What differs between two times of the same fault: names, numbers, hosts, paths and ids, drawn by a seed."""

import random
import uuid

WORDS = [
    "user",
    "order",
    "mail",
    "invoice",
    "report",
    "image",
    "cart",
    "token",
    "batch",
    "page",
    "account",
    "session",
    "tenant",
    "ledger",
    "photo",
]


class Things:
    """Draws things that errors are about."""

    def __init__(self, seed: int) -> None:
        """Draw those of ``seed``."""
        self.rng = random.Random(seed)
        self._name = f"{self.rng.choice(WORDS)}_{self.rng.choice(WORDS)}"

    def word(self) -> str:
        """Return a plain word, and that with a number."""
        word = self.rng.choice(WORDS)
        return self.rng.choice([word, f"{word}_{self.number()}", f"{word}-{self.number()}"])

    def name(self) -> str:
        """Return what may be a name in any language: the same each time, as a program has it."""
        return self._name

    def number(self) -> int:
        """Return a number of any length."""
        return self.rng.randrange(10 ** self.rng.randint(1, 6))

    def host(self) -> str:
        """Return a host that is not there."""
        return f"{self.rng.choice(WORDS)}-{self.rng.randrange(90)}.{self.rng.choice(['example', 'invalid', 'internal', 'test'])}"

    def port(self) -> int:
        """Return a port on which nobody listens."""
        return self.rng.randrange(2, 900)

    def path(self) -> str:
        """Return a path that is not there."""
        parts = [self.word() for _ in range(self.rng.randint(1, 4))]
        return "/" + "/".join(parts) + self.rng.choice(["", ".json", ".csv", ".pdf"])

    def id(self) -> str:
        """Return an id as programs make them."""
        return self.rng.choice([
            str(uuid.UUID(int=self.rng.getrandbits(128), version=4)), f"{self.rng.getrandbits(96):024x}", str(self.number()),
        ])  # fmt: skip

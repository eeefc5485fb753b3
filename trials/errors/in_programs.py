"""Errors of other languages and programs, as far as they are here: what they write to standard error."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from trials.errors.things import Things

Source = Callable[[Things], str]

NODE: dict[str, Source] = {
    "TypeError": lambda t: f"let order; order.{t.name()}",
    "not a function": lambda t: f"const o = {{}}; o.{t.name()}({t.number()})",
    "not defined": lambda t: f"{t.name()} + 1",
    "json": lambda t: f"JSON.parse('{{\"{t.word()}\": }}')",
    "no file": lambda t: f"require('fs').readFileSync('{t.path()}')",
    "no module": lambda t: f"require('{t.name()}')",
    "range": lambda t: f"new Array(-{1 + t.number()})",
    "our own": lambda t: f"class PaymentError extends Error {{}}; throw new PaymentError('no charge {t.id()} at {t.host()}')",
    "assert": lambda t: f"require('assert').strictEqual({t.number()}, -1)",
    "url": lambda t: f"new URL('{t.word()}')",
}  # fmt: skip
PERL: dict[str, Source] = {
    "zero": lambda t: "\n" * t.rng.randrange(9) + f"my $a = 0; print {t.number()} / $a;",
    "die": lambda t: "\n" * t.rng.randrange(9) + f"die 'cannot ship order {t.number()} to {t.host()}';",
    "no file": lambda t: f"open(my $f, '<', '{t.path()}') or die \"Cannot open {t.path()}: $!\";",
    "no method": lambda t: f"my $x = bless {{}}, 'Shop'; $x->{t.name()}();",
    "no module": lambda t: f"require {t.name().title().replace('_', '::')};",
    "undefined sub": lambda t: f"{t.name()}({t.number()});",
}
TCL: dict[str, Source] = {
    "no variable": lambda t: f"puts ${t.name()}",
    "no command": lambda t: t.name(),
    "zero": lambda t: f"expr {{{t.number()} / 0}}",
    "no file": lambda t: f"open {t.path()}",
    "not an integer": lambda t: f"incr x {t.name()}",
}
BASH: dict[str, Source] = {
    "no command": lambda t: "\n" * t.rng.randrange(9) + t.name(),
    "no file": lambda t: f"cat < {t.path()}",
    "unbound": lambda t: f"set -u; echo ${t.name()}",
    "zero": lambda t: f"echo $(({t.number()} / 0))",
    "syntax": lambda t: f"if {t.name()}; done",
    "not a directory": lambda t: f"cd {t.path()}",
}
AWK: dict[str, Source] = {
    "zero": lambda t: f"BEGIN {{ print {t.number()} / 0 }}",
    "syntax": lambda t: f"BEGIN {{ print {t.name()} ( }}",
}
JQ: dict[str, Source] = {
    "index": lambda t: f"{t.number()} | .{t.name()}",
    "not defined": lambda t: f"{t.name()}",
    "iterate": lambda t: f"{t.number()} | .[]",
}
SQLITE: dict[str, Source] = {
    "no table": lambda t: f"SELECT * FROM {t.name()};",
    "no column": lambda t: f"CREATE TABLE x (a); SELECT {t.name()} FROM x;",
    "not unique": lambda t: f"CREATE TABLE x (a UNIQUE); INSERT INTO x VALUES ({(n := t.number())}), ({n});",
    "syntax": lambda t: f"SELECT {t.number()} FORM {t.name()};",
}
C: dict[str, Source] = {
    "undeclared": lambda t: "\n" * t.rng.randrange(9) + f"int main(void) {{ return {t.name()}; }}\n",
    "semicolon": lambda t: "\n" * t.rng.randrange(9) + f"int main(void) {{ int {t.name()} = {t.number()} return 0; }}\n",
    "header": lambda t: f"#include <{t.name()}.h>\n",
    "arguments": lambda t: "\n" * t.rng.randrange(9) + f"int f(int a) {{ return a; }} int main(void) {{ return f(1, {t.number()}); }}\n",
}  # fmt: skip
RUST: dict[str, Source] = {
    "mismatched": lambda t: f'fn main() {{ let {t.name()}: i32 = "{t.word()}"; }}\n',
    "not found": lambda t: f'fn main() {{ println!("{{}}", {t.name()}); }}\n',
    "moved": lambda t: f"fn main() {{ let {(n := t.name())} = String::new(); drop({n}); drop({n}); }}\n",
}
RUST_PANICS = """
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let kind = std::env::args().nth(2).unwrap();
    let v: Vec<i32> = vec![0; n % 7];
    match kind.as_str() {
        "index" => println!("{}", v[n + 7]),
        "none" => { let x: Option<i32> = v.get(n + 7).copied(); println!("{}", x.unwrap()) }
        "parse" => { let x: i32 = format!("x{}", n).parse().unwrap(); println!("{}", x) }
        _ => panic!("no route to {} after {} ms", kind, n),
    }
}
"""
JAVA = """
import java.util.*;
public class Faults {
    static void one(String fault, int n, String word) throws Exception {
        switch (fault) {
            case "null": String s = null; s.length(); break;
            case "index": int[] a = new int[n % 9]; a[n + 9] = 1; break;
            case "number": Integer.parseInt(word); break;
            case "cast": Object o = word; Integer i = (Integer) o; break;
            case "key": Optional.empty().orElseThrow(); break;
            case "file": new java.io.FileReader("/" + word + "/" + n); break;
            case "class": Class.forName("com.shop.Order"); break;
            case "connect": new java.net.Socket("127.0.0.1", 2 + n % 800); break;
            case "wrapped":
                try { Integer.parseInt(word + n); } catch (Exception e) { throw new IllegalStateException("job " + n + " failed", e); }
                break;
            case "ours": throw new IllegalArgumentException("order " + n + " has no line " + (n / 2));
        }
    }
    public static void main(String[] args) {
        int times = Integer.parseInt(args[0]); Random random = new Random(Long.parseLong(args[1]));
        String[] words = {"user", "order", "mail", "invoice", "report"};
        for (String fault : "null index number cast key file class connect wrapped ours".split(" "))
            for (int k = 0; k < times; k++)
                try { one(fault, random.nextInt(100000), words[random.nextInt(5)] + (random.nextBoolean() ? "" : random.nextInt(100))); }
                catch (Throwable e) {
                    java.io.StringWriter w = new java.io.StringWriter(); e.printStackTrace(new java.io.PrintWriter(w, true));
                    String text = w.toString();
                    System.out.print(fault + "\\u0001" + (k % 2 == 0 && !fault.equals("wrapped") ? e.toString() : "Exception in thread \\"main\\" " + text) + "\\u0002");
                }
    }
}
"""
COMMANDS: dict[str, Callable[[Things], list[str]]] = {
    "curl: refused": lambda t: ["curl", "-sS", f"http://127.0.0.1:{t.port()}/{t.word()}"],
    "curl: no host": lambda t: ["curl", "-sS", f"http://{t.host()}/{t.word()}"],
    "curl: protocol": lambda t: ["curl", "-sS", f"{t.rng.choice(['abc', 'xyz'])}://{t.host()}"],
    "git: no repository": lambda t: ["git", "-C", "/", "log", t.word()],
    "git: no directory": lambda t: ["git", "-C", t.path(), "log"],
    "git: no remote": lambda t: ["git", "clone", "-q", t.path(), "/tmp/nowhere"],
    "git: option": lambda t: ["git", f"--{t.name()}x={t.number()}"],
    "tar: no archive": lambda t: ["tar", "xf", t.path()],
    "tar: not found in it": lambda t: ["tar", "cf", "/dev/null", t.path()],
    "ls": lambda t: ["ls", t.path()],
    "cp": lambda t: ["cp", t.path(), "/tmp"],
    "rm: a directory": lambda t: ["rm", t.rng.choice(["/usr", "/etc", "/var"])],
    "mkdir": lambda t: ["mkdir", f"{t.path()}/{t.word()}/{t.word()}"],
    "grep": lambda t: ["grep", t.word(), t.path()],
    "sed": lambda t: ["sed", f"s/{t.name()}", "/dev/null"],
    "date": lambda t: ["date", "-d", f"{t.name()} {t.number()}x"],
    "sort: option": lambda t: ["sort", "-k", t.name()],
    "openssl: no file": lambda t: ["openssl", "x509", "-in", t.path()],
    "openssl: option": lambda t: ["openssl", "x509", f"-{t.name()}"],
    "ssh: refused": lambda t: ["ssh", "-o", "BatchMode=yes", "-p", str(t.port()), "127.0.0.1", t.word()],
    "ssh: no host": lambda t: ["ssh", "-o", "BatchMode=yes", t.host()],
    "psql: refused": lambda t: ["psql", "-h", "127.0.0.1", "-p", str(t.port()), t.word()],
    "psql: no host": lambda t: ["psql", "-h", t.host(), t.word()],
    "make: no rule": lambda t: ["make", "-f", "/dev/null", t.word()],
    "make: no file": lambda t: ["make", "-f", t.path()],
    "npm": lambda t: ["npm", "run", t.name(), "--prefix", "/nowhere"],
}


def provoke(times: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield (fault, text) of every program that is here."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for program, how, faults in (
            ("node", lambda source: ["node", "-e", source], NODE),
            ("perl", lambda source: ["perl", "-e", source], PERL),
            ("tclsh", _file(folder / "a.tcl", "tclsh"), TCL),
            ("bash", lambda source: ["bash", "-c", source], BASH),
            ("awk", lambda source: ["awk", source], AWK),
            ("jq", lambda source: ["jq", "-n", source], JQ),
            ("sqlite3", lambda source: ["sqlite3", ":memory:", source], SQLITE),
            ("gcc", _file(folder / "main.c", "gcc", "-c", "-o", "/dev/null"), C),
            ("rustc", _file(folder / "main.rs", "rustc", "--emit=metadata", "-o", str(folder / "out")), RUST),
        ):
            if shutil.which(program) is not None:
                for n, (fault, source) in enumerate(faults.items()):
                    things = Things(seed + n)
                    for _ in range(times):
                        yield f"{program}: {fault}", _said(how(source(things)), folder)
        yield from _java(folder, times, seed)
        yield from _rust(folder, times, seed)
        for n, (fault, command) in enumerate(COMMANDS.items()):
            things = Things(seed + n)
            if shutil.which(command(things)[0]) is not None:
                for _ in range(times):
                    yield fault, _said(command(things), folder)


def _file(path: Path, *command: str) -> Callable[[str], list[str]]:
    def written(source: str) -> list[str]:
        path.write_text(source)
        return [*command, str(path)]

    return written


def _said(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return done.stderr.strip()


def _java(folder: Path, times: int, seed: int) -> Iterator[tuple[str, str]]:
    if shutil.which("java") is None:
        return
    source = folder / "Faults.java"
    source.write_text(JAVA)
    done = subprocess.run(
        ["java", str(source), str(times), str(seed)], capture_output=True, text=True, timeout=120, check=True
    )
    for each in done.stdout.split("\x02")[:-1]:
        fault, text = each.split("\x01")
        yield f"java: {fault}", text


def _rust(folder: Path, times: int, seed: int) -> Iterator[tuple[str, str]]:
    if shutil.which("rustc") is None:
        return
    source, program = folder / "panics.rs", folder / "panics"
    source.write_text(RUST_PANICS)
    subprocess.run(["rustc", "-o", str(program), str(source)], capture_output=True, timeout=120, check=True)
    things = Things(seed)
    for fault in ("index", "none", "parse", "ours"):
        for _ in range(times):
            said = fault if fault != "ours" else things.host()
            yield f"rust: {fault}", _said([str(program), str(things.number()), said], folder)

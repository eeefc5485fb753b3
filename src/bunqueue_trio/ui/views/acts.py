"""Before something is done, what it would do; then doing it."""

from urllib.parse import urlencode

from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.ui.action import Action, Done
from bunqueue_trio.ui.actions import ACTIONS, as_said, back, lines
from bunqueue_trio.ui.ask import Ask, Screen, Wrong
from bunqueue_trio.ui.saving import instead, kept


def action_of(ask: Ask) -> Action:
    """Return the action that the path names.

    Raises:
        Wrong: there is none, or it is not said what it is to be done to.
    """
    action = ACTIONS.get(ask.values["action"])
    if action is None:
        raise Wrong("There is no such action", 404)
    given = ask.form or ask.query
    if any(not given.get(name) for name in action.about if name not in action.may_lack):
        raise Wrong("It is not said what this is to be done to", 400)
    return action


async def ask_first(ask: Ask, wrong: str = "", status: int = 0) -> Screen:
    """Return the page that says what would be done, and asks."""
    action = action_of(ask)
    form = await as_said(ask, action, dict(ask.form or ask.query))
    preview, cli, curl = None, "", ""
    try:
        preview = await action.preview(ask, form)
    except (Wrong, Refused) as error:
        wrong, status = wrong or str(error), status or error.status
    try:
        action.fields_of(form, ask.now)
        if all(form.get(field.name) for field in action.fields if field.is_needed):
            cli, curl = lines(ask, action, form)
    except Wrong as error:
        # What is no value has no line for a shell.
        wrong, status = wrong or str(error), status or error.status
    return Screen(
        "act.html", action.title(form), "",
        {
            "action": action, "form": form, "heading": action.title(form), "preview": preview, "wrong": wrong, "cli": cli,
            "cannot": _why_not(ask, action), "curl": curl, "kept": kept(action.name, form) if action.is_grave or (preview is not None and preview.is_grave) else (), "instead": instead(action.name, form), "back": back(action, form), "about": [(name, form[name]) for name in action.about],
        },
        status=200 if not wrong else status if status >= 500 else 400,
    )  # fmt: skip


def _why_not(ask: Ask, action: Action) -> str:
    """Return why it cannot be done now, or not with this token; empty when it can."""
    return ask.cannot or ("" if ask.may(action.command) else "Your token may work, and not do this.")


async def do(ask: Ask) -> "tuple[str, Done] | Screen":
    """Do the act; return where to go and what to say there, or the page again with what is wrong."""
    action = action_of(ask)
    form = await as_said(ask, action, dict(ask.form))
    why = _why_not(ask, action)
    if why:
        refused = await ask_first(ask, why)
        # Who may not do it is refused for good, and a disk for now.
        return refused._replace(status=503 if ask.may(action.command) else 403)
    try:
        done = await action.perform(ask, action, form)
    except (Wrong, Refused, StoreError) as error:
        return await ask_first(ask, str(error), 503 if isinstance(error, StoreError) else error.status)
    where = done.where or back(action, form)
    if done.watch:
        where += ("&" if "?" in where else "?") + urlencode({"watch": ",".join(done.watch)})
    return where, done

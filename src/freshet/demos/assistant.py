"""A chat with a model whose answers live on the server: reload, watch it twice, stop, break, kill, approve, branch.

With `OPENAI_API_KEY` (and `OPENAI_BASE_URL`) set, and the package `openai`, a real model answers; else a stand-in.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from freshet import Freshet, Refusal, Run, Session, Welcome
from freshet.demos import model
from freshet.demos.pace import Pace
from freshet.demos.worker import Worker, worker

live = Freshet()
asking = Pace(rate=0.5, burst=4)
writing: dict[str, Worker] = {}  # by talk in which an answer is written


class Ask(msgspec.Struct):
    """parent: the answer that this one follows; `-`: none; empty: the last."""

    text: Annotated[str, Meta(min_length=1, max_length=2000)]
    parent: str = ""


class Decision(msgspec.Struct):
    approval: str
    approved: bool


class Talk(msgspec.Struct):
    """What a page asks of a talk that it has subscribed to. Whoever knows its name is in it: the name is long."""

    talk: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    ask: Ask | None = None
    decision: Decision | None = None
    resume: str = ""


@live.on_connect
async def welcome(session: Session) -> Welcome:
    return Welcome(user=session.id, data={"model": model.NAME, "real": model.REAL})


@live.run("talk:{talk}", publish="nobody")
async def answer(run: Run, message: Ask, talk: str) -> None:
    if not model.REAL and model.wants_tool(message.text):
        await run.reasoning("This changes something outside of our talk, so I ask before I do it.")
        call = await run.tool("book_table", {"place": "Freshet", "people": 2, "time": "19:30"})
        await run.ask(call, reason="Books a table in your name.")
        return  # with the decision, `decided` goes on: in a second or in a week
    await write(run, message, talk)


async def write(run: Run, message: Ask, talk: str) -> None:
    async with worker(await run.history(), message.text, behind=run.text) as writing[talk]:
        try:
            async for text in writing[talk].pieces():
                await run.write(text)
        finally:
            del writing[talk]


@answer.on_approval
async def decided(run: Run, message: Ask, talk: str) -> None:
    if run.approval is None or not run.approval.approved:
        await run.write("All right, I booked nothing.")
        return
    await run.result(run.approval.tool, {"booked": True, "table": 7})
    await run.write("Done: **table 7**, for two, at 19:30.")


@answer.resume
async def go_on(run: Run, message: Ask, talk: str) -> None:
    """It broke, or what wrote it is gone, worker or node: what it wrote is there."""
    await write(run, message, talk)


def _of(session: Session, data: Talk) -> str:
    channel = f"talk:{data.talk}"
    if channel not in session.subscriptions:
        raise Refusal.permission_denied("subscribe to the talk first")
    return channel


@live.rpc("ask")
async def ask(session: Session, data: Talk) -> Any:
    if data.ask is None:
        raise Refusal.bad_request("expected what is asked")
    asking.check(session)
    return await live.start(_of(session, data), data.ask, user=session.user, parent=data.ask.parent)


@live.rpc("stop")
async def stop(session: Session, data: Talk) -> Any:
    return await live.stop(_of(session, data))


@live.rpc("break")
async def break_off(session: Session, data: Talk) -> None:
    """As a model's connection does: the function that writes raises, and the run has failed."""
    if _of(session, data) and data.talk in writing:
        writing[data.talk].breaks = True


@live.rpc("kill")
async def kill(session: Session, data: Talk) -> None:
    """The process that writes is killed, and the run has failed; who goes on with it gets a new one."""
    if _of(session, data) and data.talk in writing:
        writing[data.talk].kill()


@live.rpc("resume")
async def resume(session: Session, data: Talk) -> Any:
    asking.check(session)
    return await live.resume(_of(session, data), data.resume)


@live.rpc("decide")
async def decide(session: Session, data: Talk) -> Any:
    if data.decision is None:
        raise Refusal.bad_request("expected a decision")
    it = data.decision
    return await live.answer(_of(session, data), it.approval, approved=it.approved, user=session.user)

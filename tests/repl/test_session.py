"""A conversation without a terminal: turns, settings, what no longer fits (row H6)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pygpt import Engine, InvalidRequestError, NumericalError, TextPiece
from pygpt.params import SamplingParams
from pygpt.repl.commands import COMMANDS, Leave, run_command
from pygpt.repl.loop import respond
from pygpt.repl.screen import PeopleScreen
from pygpt.repl.session import Session

Notes = list[str]


@pytest.fixture
def notes() -> Notes:
    return []


@pytest.fixture
def session(chat_model: Path, notes: Notes) -> Iterator[Session]:
    with Engine(chat_model) as engine:
        yield Session(engine, SamplingParams(max_tokens=9), notes.append)


def said(session: Session, text: str) -> str:
    return "".join(piece.text for piece in session.say(text))


def do(session: Session, line: str) -> None:
    run_command(line, session, PeopleScreen(color=False, interactive=True))


def test_what_was_said_is_kept(session: Session) -> None:
    answer = said(session, "hi")
    assert [message["role"] for message in session.messages] == ["user", "assistant"]
    assert session.messages[1]["content"] == answer
    said(session, "and?")
    assert len(session.messages) == 4


def test_H6_the_oldest_turns_go_with_a_notice_when_the_context_is_full(
    session: Session, notes: Notes
) -> None:
    for number in range(12):
        said(session, f"this is what I say in turn {number}")
        assert session.used() <= session.context
    assert any("no longer fit and are forgotten" in note for note in notes)
    assert session.messages[0]["role"] == "user"
    assert session.messages[0]["content"] != "this is what I say in turn 0"


def test_H6_a_single_turn_that_is_too_long_loses_its_start_with_a_notice(
    session: Session, notes: Notes
) -> None:
    assert said(session, "x" * 1000)
    assert notes == ["your message is longer than the context of 256 tokens: its start is lost"]


def test_H6_context_shows_the_usage(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    do(session, "/context")
    said(session, "hi")
    do(session, "/context")
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "(0 of 256 tokens (0 %), 0 messages)"
    assert shown[1].endswith("2 messages)")


def test_an_answer_that_is_left_early_is_kept_as_far_as_it_came(session: Session) -> None:
    session.set("max_tokens", "100000")
    answer = session.say("hi")
    first = next(answer).text
    answer.close()
    assert session.messages[-1]["role"] == "assistant"
    assert session.messages[-1]["content"].startswith(first.strip("\n"))


def test_retry_answers_again_by_the_next_seed(small_model: Path, notes: Notes) -> None:
    with Engine(small_model) as engine:
        session = Session(engine, SamplingParams(seed=5, max_tokens=20), notes.append)
        first = said(session, "hi")
        second = "".join(piece.text for piece in session.retry())
        assert (first, second) == tuple(engine.generate("hi", max_tokens=20, seed=s).text for s in (5, 6))
        assert said(session, "hi") == first


def test_retry_needs_something_to_answer(session: Session) -> None:
    with pytest.raises(InvalidRequestError, match="nothing was said yet"):
        session.retry()
    said(session, "hi")
    do(session, "/clear")
    assert session.messages == []
    with pytest.raises(InvalidRequestError, match="nothing was said yet"):
        session.retry()


def test_settings_are_changed_shown_and_taken_back(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    do(session, "/set temperature 0.5")
    do(session, "/set top-k 7")
    do(session, '/set stop "\\n"')
    do(session, "/set user HAMLET")
    assert (session.params.temperature, session.params.top_k, session.params.stop) == (0.5, 7, ("\n",))
    assert dict(session.settings())["user"] == "HAMLET"
    assert "(temperature is 0.5)" in capsys.readouterr().err
    do(session, "/set temperature default")
    do(session, "/set user")
    assert session.params.temperature is None
    assert session.names["user"] == "ROMEO"
    do(session, "/show")
    shown = capsys.readouterr().err
    assert "la.pygpt" in shown
    assert "0.0 (recorded in the model)" in shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temperatur 1", "did you mean temperature"),
        ("/set temperature hot", "must be a number, got 'hot'"),
        ("/set temperature nan", "must be a finite number"),
        ("/set n 2", "no such setting"),
        ("/set user A\x1bB", "printable"),
        ("/hepl", "did you mean /help"),
        ("/", "no such command"),
    ],
)
def test_what_cannot_be_set_or_done_is_told(session: Session, line: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        do(session, line)


def test_help_lists_every_command(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    do(session, "/help")
    shown = capsys.readouterr().err
    assert all(name in shown for name in COMMANDS)
    for way_out in ("/bye", "/exit", "/quit"):
        with pytest.raises(Leave):
            do(session, way_out)


def test_a_chat_does_not_die_of_an_emoji(small_model: Path, notes: Notes) -> None:
    with Engine(small_model) as engine:
        session = Session(engine, SamplingParams(max_tokens=5), notes.append)
        assert said(session, "hi \N{GRINNING FACE} caf\u00e9")
        assert session.messages[0]["content"] == "hi  cafe"
        assert notes == ["this model has never seen, so left out: \N{GRINNING FACE}"]
        with pytest.raises(InvalidRequestError, match="nothing is left"):
            session.say("\N{GRINNING FACE}")
        assert len(session.messages) == 2


def test_a_model_without_a_template_continues_each_text_by_itself(small_model: Path, notes: Notes) -> None:
    with Engine(small_model) as engine:
        session = Session(engine, SamplingParams(max_tokens=8, seed=1), notes.append)
        assert (
            said(session, "abc") == said(session, "abc") == engine.generate("abc", max_tokens=8, seed=1).text
        )
        with pytest.raises(InvalidRequestError, match="no such part"):
            session.set("user", "HAMLET")


# Answers that fail -----------------------------------------------------------------------------------------


def failing(session: Session, monkeypatch: pytest.MonkeyPatch, *, pieces: int) -> None:
    """From now on the model fails after some pieces of its answer."""
    real = session.engine.chat_stream

    class Failing:
        def __init__(self, *args: Any, **keywords: Any) -> None:
            self.stream = real(*args, **keywords)

        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *about: object) -> None:
            self.stream.close()

        def __iter__(self) -> Iterator[TextPiece]:
            yield from itertools.islice(self.stream, pieces)
            raise NumericalError("no finite number")

    monkeypatch.setattr(session.engine, "chat_stream", Failing)


@pytest.mark.parametrize("pieces", [0, 2])
def test_a_failing_answer_leaves_the_conversation_as_it_was(
    session: Session, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    said(session, "hi")
    before = list(session.messages)
    failing(session, monkeypatch, pieces=pieces)
    for ask in (lambda: session.say("and?"), session.retry):
        with pytest.raises(NumericalError):
            list(ask())
        assert session.messages == before


def test_a_refused_retry_keeps_the_conversation(session: Session) -> None:
    said(session, "hi")
    before = list(session.messages)
    session.set("min_tokens", "600")
    for _ in range(3):
        with pytest.raises(InvalidRequestError, match="min_tokens"):
            list(session.retry())
        assert session.messages == before
    session.set("min_tokens", "default")
    list(session.retry())
    assert [message["role"] for message in session.messages] == ["user", "assistant"]


@pytest.mark.parametrize("line", ["allowed_token_ids 99999", "logit_bias 99999=1", "stop_token_ids 99999"])
def test_a_token_that_the_vocabulary_lacks_cannot_be_set(session: Session, line: str) -> None:
    before = session.params
    with pytest.raises(InvalidRequestError, match="99999 is not in the vocabulary"):
        session.set(*line.split(" "))
    assert session.params == before


def test_a_failing_answer_is_not_called_stopped(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(session, monkeypatch, pieces=0)
    with pytest.raises(NumericalError):
        respond("hi", session, PeopleScreen(color=False, interactive=True))
    shown = capsys.readouterr()
    assert shown.out == "JULIET: \n"
    assert "stopped" not in shown.err

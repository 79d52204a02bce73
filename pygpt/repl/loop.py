"""The chat itself: read, answer, show, until someone leaves."""

from __future__ import annotations

from contextlib import closing

from pygpt.errors import EngineClosedError, Error
from pygpt.repl.commands import Answer, Leave, run_command
from pygpt.repl.reader import Reader
from pygpt.repl.screen import Screen
from pygpt.repl.session import Session

YOU, MODEL = "you", "model"  # where a model's speakers have no names


def converse(session: Session, screen: Screen, reader: Reader) -> None:
    """Read and answer until the reader's end or /bye.

    Raises:
        KeyboardInterrupt: Ctrl-C twice at the prompt.
    """
    while True:
        try:
            text = reader.read(f"{session.names['user'] or YOU}: ")
        except EOFError:
            return
        try:
            respond(text, session, screen)
        except Leave:
            return
        except KeyboardInterrupt:
            continue  # it came a moment after the answer that it was meant to stop
        except EngineClosedError:
            raise
        except Error as error:
            screen.trouble(str(error))


def respond(text: str, session: Session, screen: Screen) -> None:
    """Answer a text, or do what the command in it says.

    Raises:
        Error: what is wrong with it.
        Leave: /bye.
    """
    if not text.strip():
        return
    if text.startswith("/") and not text.startswith("//"):
        answer = run_command(text.strip(), session, screen)
    else:
        answer = session.say(text[1:] if text.startswith("//") else text)
    if answer is not None:
        show(answer, session, screen)


def show(answer: Answer, session: Session, screen: Screen) -> None:
    """Show an answer as it comes. Ctrl-C stops it and keeps the chat."""
    completion = None
    screen.begin(session.names["assistant"] or MODEL)
    try:
        with closing(answer):
            for piece in answer:
                screen.piece(piece)
                completion = piece.completion
    except KeyboardInterrupt:
        screen.end(None)  # what was said so far stands, and the chat goes on
    except BaseException:
        screen.fail()
        raise
    else:
        screen.end(completion)

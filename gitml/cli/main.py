"""The command line: all commands under one name, and the one place where failures become exit codes."""

import os
import signal
import sys
from collections.abc import Sequence

import typer

from gitml.cli import dag, doctor, init, install, log, logs, ls, run, show, status, track, version, wait
from gitml.cli.output import paint, safe, talk
from gitml.errors import ExitCode, GitmlError

app = typer.Typer(
    name="git-ml",
    help="Data, models and pipelines in plain git. Commit data, get a committed model.",
    epilog="'git ml COMMAND -h' explains a command; 'git ml --help' opens the manual page.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)

app.command("init")(init.init)
app.command("install")(install.install)
app.command("uninstall")(install.uninstall)
app.command("track")(track.track)
app.command("untrack")(track.untrack)
app.command("status")(status.status)
app.command("run")(run.run)
app.command("wait")(wait.wait)
app.command("logs")(logs.logs)
app.command("log")(log.log)
app.command("show")(show.show)
app.command("dag")(dag.dag)
app.command("ls")(ls.ls)
app.command("doctor")(doctor.doctor)
app.command("version")(version.version)


@app.callback()
def _root() -> None:
    """Data, models and pipelines in plain git. Commit data, get a committed model."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; give its exit code. Every failure that is not a defect is one message."""
    try:
        result = typer.main.get_command(app).main(args=list(arguments), prog_name="git ml", standalone_mode=False)
        sys.stdout.flush()
    except typer.Exit as ended:
        return ended.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            talk(str(error))
        else:
            formatted = str(error.format_message()) if hasattr(error, "format_message") else str(error)
            _complain(formatted[:1].lower() + formatted[1:].rstrip("."), "git ml -h")
        return ExitCode.USAGE
    except GitmlError as error:
        _complain(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        # whoever read us has gone (`| head`); leave without a word, as git does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return result if isinstance(result, int) else ExitCode.OK


def _complain(message: str, hint: str | None) -> None:
    for line in message.splitlines() or [""]:
        talk(f"{paint('error:', '31', sys.stderr)} {safe(line)}")
    for line in (hint or "").splitlines():
        talk(f"{paint('hint:', '33', sys.stderr)} {safe(line)}")

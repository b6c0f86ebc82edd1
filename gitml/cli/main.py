"""The command line: all commands under one name, and the one place where failures become exit codes."""

import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword

import typer

from gitml.cli.output import complain, machine_failed, reader_left, talk
from gitml.cli.pager import paged
from gitml.errors import ExitCode, GitmlError

COMMANDS = {
    "init": ("init", "Start a project from a template"),
    "install": ("install", "Set this clone up, fetch data, fill in files"),
    "uninstall": ("install", "Take back what install did"),
    "trust": ("trust", "Let hooks run commands that you reviewed"),
    "track": ("track", "Put files under gitml"),
    "untrack": ("track", "Take files from under gitml"),
    "add": ("add", "Add many or very large files"),
    "checkout": ("checkout", "Fill in files that are pointers"),
    "validate": ("validate", "Check specifications before they are committed"),
    "status": ("status", "Show where every stage stands"),
    "run": ("run", "Bring results up to date and commit them"),
    "stop": ("stop", "End the run that is under way"),
    "resume": ("stop", "Go on with a run that was stopped or killed"),
    "retry": ("stop", "Try failed stages again"),
    "restore": ("restore", "Put known results back in place"),
    "accept": ("hold", "Declare edited outputs to be the results"),
    "hold": ("hold", "Keep outputs as they stand"),
    "unhold": ("hold", "End a hold"),
    "undo": ("undo", "Take the last result commit back"),
    "rebase": ("rebase", "Replay commits without the results between them"),
    "cron": ("cron", "Commit the ticks of cron inputs"),
    "egress": ("egress", "Copy results to where 'egress' says"),
    "publish": ("publish", "Commit results that wait to be committed"),
    "watch": ("watch", "Show the run under way, stage by stage"),
    "wait": ("wait", "Wait for the run that is under way"),
    "logs": ("logs", "Print what commands wrote, datum by datum"),
    "log": ("log", "Show results and metrics over the commits"),
    "show": ("show", "Show what made a file"),
    "why": ("why", "Show what something was made from, or went into"),
    "diff": ("diff", "Show what changed between two commits, and why"),
    "report": ("report", "Write a page about a change and the state of everything"),
    "comment": ("comment", "Put a report on a pull request"),
    "bisect": ("bisect", "Find the commit that broke a metric"),
    "verify": ("verify", "Check results against their records, or run them again"),
    "rollback": ("rollback", "Revert a run, what made a metric worse, or a commit"),
    "backtest": ("backtest", "Evaluate old and new models over past inputs"),
    "dag": ("dag", "Draw the pipeline"),
    "push": ("push", "Send data and runs that a remote lacks"),
    "fetch": ("fetch", "Bring content and runs here"),
    "pull": ("pull", "Bring content here and fill in files"),
    "remote": ("remote", "Look after repositories in object storage"),
    "secret": ("secret", "Keep secrets for stages, in this clone alone"),
    "ls": ("ls", "List large files, runs, stages, datums, outputs"),
    "cat": ("cat", "Print a file of any commit"),
    "import": ("import_", "Take over pipelines of Pachyderm and DVC"),
    "migrate": ("migrate", "Take over plain git, git-lfs and DVC, or give back"),
    "fsck": ("fsck", "Check that all content is here and whole"),
    "prune": ("prune", "Stop keeping content that nothing needs"),
    "gc": ("gc", "Clear away what is garbage, then run git gc"),
    "info": ("info", "Show what takes the space"),
    "doctor": ("doctor", "Check this machine and this clone"),
    "version": ("version", "Print the version"),
    "help": ("help", "List the commands, or explain one"),
}
"""Command to the module below `gitml.cli` that has it, and its line in the list of commands."""


def build(names: Sequence[str]) -> typer.Typer:
    """The command line with these commands; the modules of others are not even imported."""
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
    app.callback()(_root)
    for name in names:
        module, summary = COMMANDS[name]
        command = getattr(import_module(f"gitml.cli.{module}"), f"{name}_" if iskeyword(name) else name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, short_help=summary)
        else:
            app.command(name, short_help=summary)(command)
    return app


def _root() -> None:
    """Data, models and pipelines in plain git. Commit data, get a committed model."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; give its exit code. Every failure that is not a defect is one message."""
    asked = arguments[0] if arguments else ""
    known = asked in COMMANDS
    app = build([asked] if known else list(COMMANDS))
    try:
        with paged(asked):
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
            complain(formatted[:1].lower() + formatted[1:].rstrip("."), f"git ml {asked} -h" if known else "git ml -h")
        return ExitCode.USAGE
    except GitmlError as error:
        complain(error.message, error.hint)
        return error.exit_code
    except (BrokenPipeError, SystemExit):
        # typer ends the process with 1 when a command cannot print any more, and for nothing else
        return reader_left()
    except OSError as error:
        return machine_failed(error)
    return result if isinstance(result, int) else ExitCode.OK

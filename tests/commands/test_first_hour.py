"""The commands as a new user types them: bare, with every option, with a typo, at 80 columns, interrupted."""

import contextlib
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from unittest import mock

import code_blocks
import pytest
from commanding import fails, purerl

import purerl as package
from purerl import cli
from purerl.commands import parser
from purerl.commands.functions import FunctionError


def options(command):
    return importlib.import_module(f"purerl.commands.options.{command}").Options


def parsed(line):
    """The options of a command as it is typed in a shell; nothing is run."""
    program, command, *arguments = shlex.split(line, comments=True)
    assert program == "purerl", line
    return parser.parse(command, options(command), arguments)[0]


def shown(capsys, *argv):
    """The text that a command prints before it exits."""
    with contextlib.suppress(SystemExit):
        purerl(*argv)
    printed = capsys.readouterr()
    assert not printed.err
    return printed.out


def typed_lines(text):
    """The `purerl` commands in a page's shell blocks, without those that a program starts and those from files."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("purerl ") and "--config" not in line]


# --- Help -------------------------------------------------------------------------------------------------------------


def test_the_bare_command_shows_the_commands(capsys):
    text = shown(capsys)
    assert all(f"\n  {command} " in text for command in cli.COMMANDS)
    assert text == shown(capsys, "--help")


def test_the_version_is_shown(capsys):
    assert shown(capsys, "--version").strip() == f"purerl {package.__version__}"


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_fits_into_80_columns(monkeypatch, capsys, command):
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, *filter(None, [command]), "--help").splitlines()
    assert max(map(len, lines)) <= 80, max(lines, key=len)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_begins_with_a_summary_and_two_examples(capsys, command):
    lines = shown(capsys, command, "--help").splitlines()
    place = lines.index("examples:")
    assert place <= 6
    assert [line.split()[:2] for line in lines[place + 1 : place + 3]] == [["purerl", command]] * 2


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_no_types_of_the_program(capsys, command):
    text = shown(capsys, command, "--help")
    assert not re.search(r"\bSTR\b|\bNone\b|\bINT\b|\bFLOAT\b|NoneType|Path\b", text)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_examples_of_the_help_can_be_typed(command):
    for line in options(command).EXAMPLES:
        parsed(line)


@pytest.mark.parametrize("page", code_blocks.PAGES, ids=lambda page: str(page.relative_to(code_blocks.ROOT)))
def test_the_commands_of_the_pages_can_be_typed(page):
    for line in typed_lines(page.read_text(encoding="utf-8")):
        parsed(line)


# --- Bare, and with each option ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "sweep", "rlhf", "envs"])
def test_a_command_that_needs_no_argument_takes_none(command):
    assert parsed(f"purerl {command}") == options(command)()


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_a_command_without_its_run_lists_the_runs(tmp_path, capsys, command):
    assert f"purerl {command} RUN" in fails(capsys, command, "--runs-dir", tmp_path)


def test_solve_without_its_mdp_lists_the_mdps(capsys):
    assert "purerl solve MDP; the MDPs are gridworld, maze" in fails(capsys, "solve")


def test_envs_alone_lists_environments_and_algorithms(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(capsys, "envs")
    assert all(name in text for name in ("CartPole-v1", "TrafficLight-v0", "ppo", "cql", "rainbow"))


GOOD = {"N": "7", "SECONDS": "1.5", "SHARE": "0.5", "P": "0.5", "GAMMA": "0.5", "REWARD": "-1", "CHANGE": "1e-3"}
GOOD |= {
    "ENVSxSTEPS": "4x16",
    "SIZE": "1GiB",
    "FACTOR": "0.5",
    "METHOD": None,
    "SCHEDULE": "halving",
    "NAME=VALUE": "a=1",
    "TASK": "clicks",
}
GOOD |= {"X": "0.25", "K": "7", "TYPE": "bfloat16", "CURVE": "linear", "FAMILY": "llama", "MODEL": "small"}
GOOD |= {"SERVICE": "jsonl", "FORMAT": "onnx"}
GOOD |= {"ACTION": None, "ALGORITHM": "rloo", "LOSS": "pairwise"}
GOOD |= {"R": "5", "H": "5", "M": "5", "N|auto": "auto", "CRITERION": "area", "WHERE": "own", "RETURN": "475"}
GOOD |= {
    "PRESET": "fast",
    "N|all": "all",
    "N|measured": "measured",
    "DEVICE": "gpu",
    "PRECISION": "bfloat16",
    "CORES": "one",
}


@pytest.mark.parametrize(
    ("command", "name"),
    [(command, field.name) for command in cli.COMMANDS for field in parser.fields(options(command))],
)
def test_every_option_can_be_typed(command, name):
    (field,) = [each for each in parser.fields(options(command)) if each.name == name]
    about = field.metadata
    value = GOOD.get(about.get("metavar"), "text") or about["help"].split()[0].strip(",.:")
    value = "grid" if (command, name) == ("sweep", "method") else value
    value = "policy_iteration" if (command, name) == ("solve", "method") else value
    words = [] if about.get("positional") else [parser.typed(field)]
    words += [] if about.get("flag") else [value]
    assert parsed(shlex.join(["purerl", command, *words])) != options(command)()


NUMBERS = ("N", "SECONDS", "SHARE", "P", "GAMMA", "REWARD", "CHANGE", "SIZE", "FACTOR", "R", "H", "M")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (command, parser.typed(field))
        for command in cli.COMMANDS
        for field in parser.fields(options(command))
        if field.metadata.get("metavar") in NUMBERS
    ],
)
@pytest.mark.parametrize("value", ["foo", "nan", "inf", "true"])
def test_a_number_that_cannot_be_read_is_refused_in_one_line(capsys, command, name, value):
    text = fails(capsys, command, name, value)
    assert name in text
    assert repr(value) in text


# --- Typos and habits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "did you mean 'train'"),
        ("frobnicate", "the commands are train, sweep"),
        ("train --learning-rate 3e-4", "--hparams learning_rate=VALUE"),
        ("train --lr 3e-4", "--hparams learning_rate=VALUE"),
        ("train --gamma 0.9", "--hparams discount=VALUE"),
        ("train --num-epochs 3", "--agent num_epochs=VALUE"),
        ("train --hidden 32", "--network hidden=VALUE"),
        ("train --total-timesteps 100", "did you mean --num-steps"),
        ("train --algo ppo", "did you mean --algorithm"),
        ("train --confirm 3", "--confirm is an option of purerl sweep"),
        ("train --num-step 100", "did you mean --num-steps"),
        ("train first", "unexpected argument 'first'"),
        ("train --seed", "--seed needs a value"),
        ("train --seed -1", "--seed"),
        ("train --checkpoint-seconds -1", "at least 0"),
        ("train --config", "--config needs a value"),
        ("train --config nothing.toml", "nothing.toml"),
        ("train --seed 1 --seed 2", "--seed is given more than once"),
        ("sweep --confirm -1", "--confirm"),
        ("sweep --eta 1", "at least 2"),
        ("sweep --memory-limit foo", "'foo' is not an amount of memory"),
        ("sweep --schedule having", "did you mean 'halving'"),
        ("sweep --resume", "--resume RUN"),
        ("evaluate nothing", "nothing is not the name of a run"),
        ("report nothing", "nothing is not the name of a run"),
        ("solve girdworld", "did you mean 'gridworld'"),
        ("solve gambler --noise 0.1", "gambler is not one"),
        ("rlhf langauge", "did you mean 'language'"),
        ("envs CartPole", "did you mean 'CartPole-v1'"),
        ("envs HalfCheetah-v4", "gymnasium/HalfCheetah-v4"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, capsys, line, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *shlex.split(line))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--hparams learning_rate=inf", "learning_rate must be finite"),
        ("--hparams learning_rate=nan", "learning_rate is NaN"),
        ("--hparams learning_rate=true", "learning_rate must be a number, got 'true'"),
        ("--hparams learning_rate=fast", "learning_rate must be a number, got 'fast'"),
        ("--env-settings length=nan", "length=nan"),
        ("--env-settings length=inf", "length=inf"),
        ("--env-settings length=true", "length=true"),
        ("--env HalfCheetah-v4", "Gymnasium, which runs on the host"),
        ("--algorithm a4c", "did you mean"),
        ("--algorithm sac", "needs a Box action space"),
        ("--env nowhere:corridor", "cannot import nowhere"),
        ("--agent policy_loss=math:nothing", "math has no 'nothing'"),
        ("--name a/b", "plain directory name"),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, line, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, "train", *shlex.split(line))
    assert not list(tmp_path.iterdir())


def test_distributed_without_a_cluster_says_what_is_missing(tmp_path, capsys):
    no_cluster = mock.patch("purerl.distributed.initialize", side_effect=ValueError("coordinator_address"))
    with no_cluster:
        assert "found no cluster" in fails(capsys, "sweep", "--distributed", "auto", "--runs-dir", tmp_path)


# --- The end of a command ---------------------------------------------------------------------------------------------


def ends(capsys, error):
    with mock.patch("purerl.commands.envs.run", side_effect=error), pytest.raises(SystemExit) as end:
        purerl("envs")
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "purerl envs: interrupted"),
        (PermissionError(13, "Permission denied", "runs"), 1, "Permission denied"),
        (MemoryError("a block of 16 agents takes 9 GB"), 1, "a block of 16 agents"),
        (ModuleNotFoundError("blocks need ray"), 1, "blocks need ray"),
        (FunctionError("--callbacks mine:f raised KeyError: 'x'"), 1, "--callbacks mine:f raised"),
    ],
)
def test_a_command_that_fails_ends_in_one_line(capsys, error, code, message):
    found, text = ends(capsys, error)
    assert found == code
    assert message in text
    assert text.count("\n") == 1


def test_a_warning_is_one_line_without_the_code_that_it_comes_from(capsys):
    def warn(options):
        warnings.warn("a table\nhas changed", stacklevel=1)

    with mock.patch("purerl.commands.envs.run", warn):
        cli.main(["envs"])
    assert capsys.readouterr().err == "purerl: a table has changed\n"


def test_an_error_of_the_program_keeps_its_traceback():
    with mock.patch("purerl.commands.envs.run", side_effect=KeyError("x")), pytest.raises(KeyError):
        purerl("envs")


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "purerl", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("purerl ")


# --- From end to end --------------------------------------------------------------------------------------------------

HOUR = """
purerl envs
purerl envs CartPole-v1
purerl train --num-steps 20k --name first
purerl train --resume first --num-steps 40k
purerl evaluate first --num-episodes 20
purerl evaluate runs/first/policy --num-episodes 20 --sample
purerl evaluate first --record data/first --record-steps 3200
purerl train --algorithm cql --dataset data/first --num-steps 10k
purerl train --algorithm rainbow --num-steps 5k
purerl sweep --num-trials 4 --num-steps 20k --schedule halving --eta 2 --rungs 2 --name big
purerl report big
purerl solve gridworld --sweeps 3 --output figures
purerl rlhf clicks --num-pairs 300 --output figures
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_first_hour_from_end_to_end(tmp_path):
    """Every command in a process of its own, one after the other, in an empty directory."""
    for line in HOUR.strip().splitlines():
        words = [sys.executable, "-m", *shlex.split(line)]
        environment = os.environ | {"COLUMNS": "80"}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_is_interrupted_is_saved_and_resumed(tmp_path):
    words = [sys.executable, "-m", "purerl", "train", "--name", "long", "--num-steps", "2M"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "runs" / "long" / "metrics.csv").exists():
        time.sleep(0.2)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Resume with: purerl train --resume runs/long" in printed
    assert "Traceback" not in errors

"""`purerl export`: a saved policy as files that other programs read."""

from __future__ import annotations

from pathlib import Path

from purerl import export, runs
from purerl.commands import console, tasks
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.export import Options
from purerl.export import Agreement
from purerl.runs import Policy


def run(options: Options) -> None:
    """Export as the options say.

    Raises:
      UsageError: no policy is saved there, or a package is missing.
      CheckpointError: it is damaged.
      FloatingPointError: an exported policy acts in another way than the original.
    """
    tasks.reject_missing("export", options.run, options.runs_dir, "policy/SHA256SUMS")
    if options.push and "hub" not in options.formats:
        raise UsageError("--push uploads the folder of --formats hub")
    with usage_errors():
        policy = runs.load(options.run, options.runs_dir)
        directory = Path(options.output) if options.output else policy.directory / "export"
        directory.mkdir(parents=True, exist_ok=True)
        for name in options.formats:
            _write(name, policy, directory, options)


def _write(name: str, policy: Policy, directory: Path, options: Options) -> None:
    if name == "hub":
        folder = export.folder(policy, directory / "hub", options.push or "")
        console.say(f"{folder}: load it with purerl.load({str(folder)!r})")
        if options.push:
            console.say(f"pushed: {export.push(folder, options.push)}")
        return
    path = directory / f"policy.{name}"
    if name == "safetensors":
        console.say(f"{path}: {len(export.safetensors(policy.state, path))} arrays")
        return
    _report(path, export.stablehlo(policy, path) if name == "stablehlo" else export.onnx(policy, path))


def _report(path: Path, agreement: Agreement) -> None:
    same, total = agreement
    if same < total:
        raise FloatingPointError(f"{path} acts as the policy on {same} of {total} observations only: do not use it")
    console.say(f"{path}: the same action on {same} of {total} observations of a rollout")

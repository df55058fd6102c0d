"""`dipole deploy` of a tiny checkpoint, with patience for a machine that others use too."""

from dipole.apps.main import main


def deploy(checkpoint, output, *words):
    """The command's exit code. checkpoint: A folder, or None: a server is among the words."""
    solver = [] if checkpoint is None else ["solver=ddim", "solver.steps=2", "device=cpu"]
    # A shared machine may be slow: what is tested here is not its speed.
    patience = ["deploy.call_timeout=10", "deploy.max_observation_age=10", "watchdog=20"]
    policy = f"checkpoint={'null' if checkpoint is None else checkpoint}"
    settings = [policy, f"output={output}"]
    return main(["deploy", *settings, *solver, *patience, *words])

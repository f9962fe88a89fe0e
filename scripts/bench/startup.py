"""What the command line costs before it does anything, against `import click`, on which it rests.

    python scripts/bench/startup.py [--rounds 15]

Each is a process of its own, with its interpreter; CPU seconds of the process; in turn, the median over the rounds.
"""

import argparse
import resource
import statistics
import subprocess
import sys

CLICK = ["-c", "import click"]
ANSWERS = {
    "help": ["--help"],
    "a wrong flag": ["--bogus"],
    "a wrong command": ["bogus"],
    "a command's wrong flag": ["extract-activations", "--bogus"],
    "a wrong flag among the most settings": ["run-data-gen", "--bogus"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """CPU seconds of one process of Python, those of the system for it included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Traceback" not in done.stderr, done.stderr
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    ways = {"import click": CLICK} | {name: ["-m", "actlab", *answer] for name, answer in ANSWERS.items()}
    for way in ways.values():
        cpu_seconds(way)  # compiles what is not compiled yet
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(cpu_seconds(way))
    click = statistics.median(seconds["import click"])
    for name, measured in seconds.items():
        median = statistics.median(measured)
        print(f"{name:<38} {1000 * median:6.1f} ms  {median / click:5.2f} x import click")


if __name__ == "__main__":
    main()

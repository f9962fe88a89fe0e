"""What a terminal is shown and a file is given: no password, nothing that acts on the terminal, no unsafe advice."""

import base64
import io
import json
import logging
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actlab.cli.common import echo
from actlab.formats.activations import read_shard
from actlab.formats.classifier import load_dataset
from actlab.ground.errors import ActlabError, ConfigError, scrubbed
from actlab.ground.logs import LineFormatter, lines_of_libraries
from actlab.ground.printing import printable
from actlab.servers.calls import Endpoint, Request
from actlab.servers.environment import ServerEnvironment, read_environment
from actlab.servers.limits import PRESETS
from actlab.servers.server import server_of
from tests.command_line import run
from tests.conformance_server import MODEL, Fault, serve
from tests.conftest import make_rows
from tests.damage import sealed_again

NAME, PASSWORD = "annabelle", "Zq7/xy@9w"
ENCODED = "Zq7%2Fxy%409w"
BASIC = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
SECRET = re.compile("|".join(map(re.escape, (NAME, PASSWORD, ENCODED, BASIC, "Zq7", "9w", "sekrit"))))

# Passwords

WRONG_ADDRESSES = [
    f"http://{NAME}:{PASSWORD}@box:80",  # its slash ends the host
    f"http://{NAME}:{ENCODED}@box:port",
    f"http://{NAME}:{ENCODED}@box:0",
    f"http://{NAME}:{ENCODED}@box:80/v1?api_key=sekrit",
    f"ftp://{NAME}:{ENCODED}@box:80",
    f"{NAME}:{ENCODED}@box:port",
    f"http:/{NAME}:{ENCODED}@box:80",
    f"http://{NAME}:{ENCODED}@[::1:80",
    f"http://{NAME}:80/Zq7@box",
    f"http://{NAME}:Zq7#9w@box",
    f"http://{NAME}:Zq7 9w@box",
    "http://box:80/v1?api_key=sekrit",
    "http://box:80/v1#sekrit",
]


@pytest.mark.parametrize("address", WRONG_ADDRESSES)
def test_an_address_that_is_none_shows_no_piece_of_its_password(address):
    for api in ("ollama", "openai"):
        with pytest.raises(ConfigError) as refusal:
            server_of(api, "m", environment=ServerEnvironment(), base_url=address)
        assert not SECRET.search(f"{refusal.value} {refusal.value.hint}")
    with pytest.raises(ConfigError) as refusal:
        read_environment({"OLLAMA_HOST": address})
    assert not SECRET.search(f"{refusal.value} {refusal.value.hint}")


def test_the_command_line_shows_no_password_of_an_address(tmp_path, monkeypatch):
    flags = ["generate-text", "tea", "--method", "ollama", "--model", "m", "--output", tmp_path / "out"]
    done = run(*flags, "--base-url", WRONG_ADDRESSES[0])
    assert (done.returncode, SECRET.search(done.stdout + done.stderr)) == (2, None)
    hint = done.stderr.splitlines()[-1]
    assert "put name:password@ before the host" in hint
    assert hint == printable(hint)
    assert "…" not in hint
    extra = run(*flags, f"http://{NAME}:{PASSWORD}@box:80/v1?api_key=sekrit&n=2")
    assert (extra.returncode, SECRET.search(extra.stdout + extra.stderr)) == (2, None)
    monkeypatch.setenv("OLLAMA_HOST", WRONG_ADDRESSES[1])
    done = run(*flags)
    assert (done.returncode, SECRET.search(done.stdout + done.stderr)) == (2, None)


def with_login(url: str) -> str:
    return url.replace("http://", f"http://{NAME}:{ENCODED}@")


@pytest.mark.parametrize("api", ["ollama", "openai"])
def test_a_login_is_sent_and_stands_in_no_file_and_no_line(api, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sekrit")
    with serve() as there:
        address = ["--base-url", with_login(there.url)]
        if api == "ollama":
            monkeypatch.setenv("OLLAMA_HOST", with_login(there.url))
            address = []
        flags = ["generate-text", "simple recipes", "--method", api, "--model", "tiny", "--tokens", "150"]
        flags += ["--output", tmp_path / "text", "--tokenizer", "actlab/tiny", *address]
        judge = ["refine-text", tmp_path / "text", "--output", tmp_path / "refined", "--judge", "tiny", "--no-plots"]
        judge += ["--min-score", "0", "--base-url", with_login(there.url)]
        lines = []
        for command in ([*flags, "--dry-run", "--json"], [*flags, "--json"], judge, ["show", tmp_path / "text"]):
            done = run(*command)
            assert done.returncode == 0, done.stderr
            lines.append(done.stdout + done.stderr)
        assert set(there.keys) == {f"Basic {BASIC}"}
        there.always = Fault("status", status=400, message=f"who is {NAME}:{PASSWORD}? you said Basic {BASIC}")
        refused = run(*flags, "--seed", "1", "--fallback", "never", "--overwrite")
    gone = run(*flags, "--seed", "2", "--fallback", "never", "--overwrite")
    assert (refused.returncode, gone.returncode) == (1, 1)
    lines += [refused.stderr, gone.stderr]
    assert not SECRET.search("".join(lines))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("journal" in path.name for path in files)
    for path in files:
        assert not SECRET.search(path.read_bytes().decode(errors="replace")), path


def test_what_a_server_repeats_of_a_login_is_hidden_in_every_kind_of_answer():
    said = f"{BASIC} {NAME}:{PASSWORD} {PASSWORD} sekrit-key {NAME}: no"
    endpoint = {"model": MODEL, "limits": PRESETS["cpu"], "login": f"{NAME}:{PASSWORD}", "api_key": "sekrit-key"}
    for fault in (
        Fault("status", status=400, message=said),
        Fault("page", status=400, message=said),
        Fault("page", status=302, headers={"Location": f"http://{NAME}:{ENCODED}@box/?token=sekrit-key"}),
        Fault("page", status=200, message=json.dumps({"error": "x" * 290 + said})),
        Fault("page", status=200, message=said),
        Fault("error_line", after=1, message=said),
    ):
        with serve(always=fault) as there:
            server = server_of("ollama", MODEL, environment=ServerEnvironment(), base_url=there.url)
            own = Endpoint(base_url=server.endpoint.base_url, **endpoint)
            assert "sekrit" not in repr(own)
            assert NAME not in repr(own)
            problem = (
                type(server)(dialect=server.dialect, endpoint=own).generate(Request(k=0, prompt="p", seed=1)).problem
            )
        assert problem
        assert not SECRET.search(problem)


def test_a_login_of_ordinary_words_leaves_the_words_of_others():
    def hidden(login: str, text: str) -> str:
        return Endpoint(base_url="", model=MODEL, limits=PRESETS["cpu"], login=login).hidden(text)

    said = "model 'abcdef' not found by an admin of administrators"
    assert hidden("admin:abc", said) == said
    assert hidden("admin:abc", "admin:abc, and admin: abc is wrong") == "***, and ***: abc is wrong"
    assert hidden("admin:models", "the models, and remodelsing") == "the ***, and remodelsing"
    assert hidden("adm:model", base64.b64encode(b"adm:model").decode()) == "***"
    assert hidden("atoken123:", "atoken123 is no name") == "*** is no name"


def test_scrubbing_takes_secrets_and_leaves_addresses():
    for whole, left in (
        ("see http://ann:pw@box:80/v1 now", "see http://…@box:80/v1 now"),
        ("https://ann@box", "https://…@box"),
        ("x?api_key=abc&n=2&access_token=de#f", "x?api_key=…&n=2&access_token=…#f"),
        ("Authorization: Bearer abc123 failed", "Authorization: Bearer … failed"),
        ("Incorrect API key sk-proj-abcdefghij0123456789", "Incorrect API key sk-…"),
        ("http://ann:p@ss@box/a", "http://…@box/a"),
        ("http://ann:a/b@c@box/v1", "http://…@box/v1"),
        ("x-api-key: abc1 failed", "x-api-key: … failed"),
        ('{"api_key": "abc", "n": 2}', '{"api_key": "…", "n": 2}'),
        ("{'token': 'abc'}", "{'token': '…'}"),
        ("--token=abc --password=abc", "--token=… --password=…"),
        ("OPENAI_API_KEY=abc HF_TOKEN=abc", "OPENAI_API_KEY=… HF_TOKEN=…"),
        ("ghp_abcdefghij0123456789 github_pat_abcdefghij", "ghp_… github_pat_…"),
    ):
        assert scrubbed(whole) == left
        assert scrubbed(left) == left
    for text in (
        "https://huggingface.co/a/b@main",
        "https://box:8000/a/b@c",
        "s3://bucket/run:3/model@main",
        "ann@example.org",
        "a bearer of news",
        "basic understanding",
        "--tokens=500, pad_token='<eos>', --tokenizer=actlab/tiny and max_tokens=8",
        "unknown key: 'layer', token: 5",
    ):
        assert scrubbed(text) == text


@pytest.mark.parametrize("part", ["://", "://a:b", "://a@", "?key", "api_key", "A_KEY", "token: ", "bearer "])
def test_a_long_line_is_scrubbed_at_once(part):
    for _ in range(3):
        scrubbed(part * (300_000 // len(part)))  # of what takes the square of its length, this would take hours


def test_a_library_with_a_handler_of_its_own_writes_lines_without_secrets():
    for library, is_there in (("library_a", False), ("library_b", True)):
        handler = logging.StreamHandler(io.StringIO())
        if is_there:
            logging.getLogger(library).addHandler(handler)
        lines_of_libraries(library)
        logger = logging.getLogger(library)
        if not is_there:
            logger.addHandler(handler)
        handler.setFormatter(logging.Formatter("[lib] %(message)s"))
        logger.propagate = False
        logging.getLogger(f"{library}.part").warning("a\x1b[31m\nb http://ann:pw@box")
        assert handler.stream.getvalue() == "[lib] a\\u001b[31m\\u000ab http://…@box\n"
    assert logging.getLoggerClass() is logging.Logger


@pytest.mark.slow
def test_the_lines_of_transformers_and_of_the_hub_are_the_command_lines_own():
    code = """
import contextlib, logging
from actlab.cli.main import main
with contextlib.suppress(SystemExit):
    main(["show", "nowhere"])  # what a command runs with
import transformers, huggingface_hub.utils
for name in ("transformers", "huggingface_hub"):
    logging.getLogger(name + ".part").warning("a\x1b[31m\\nb http://ann:pw@box")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert sum("a\\u001b[31m\\u000ab http://…@box" in line for line in lines) >= 2
    assert not any("\x1b" in line or ":pw@" in line for line in lines)


# The terminal

HARMFUL = "\x1b[2J\x1b]0;owned\x07 \x08\r\x00\x7f\x9b31m\x85\u2028\u202eabc\u2066\ud800"
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]")


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_what_is_printed_acts_on_no_terminal_and_json_stays_what_it_was(text):
    shown = printable(text)
    assert not ACTS.search(shown)
    assert printable(shown) == shown
    for ascii_only in (True, False):
        assert json.loads(printable(json.dumps([text], ensure_ascii=ascii_only))) == [text]


def test_text_for_people_is_printed_as_it_is():
    for text in ("a\tb\nc", "नमस्ते क्\u200dष", "می\u200cخواهم", "👩\u200d🍳 x\u00a0y\u3000z", "שלום\u200f!", r"\x1b"):
        assert printable(text) == text


def test_a_preview_shows_escape_sequences_and_runs_none(llama, write_rows, tmp_path):
    rows = make_rows(2)
    rows[0]["prompt"] = rows[0]["EM"] = f"Hello {HARMFUL.replace(chr(0xD800), '')}"
    done = run("extract-activations", "--model", llama, "--dataset", write_rows(rows), "--preview", "1")
    assert done.returncode == 0, done.stderr
    assert r"\u001b[2J\u001b]0;owned\u0007" in done.stdout
    assert not ACTS.search(done.stdout)


def test_files_names_and_metadata_are_shown_harmless(tmp_path):
    text = tmp_path / "text"
    made = run("generate-text", "simple recipes", "--tokens", "100", "--tokenizer", "actlab/tiny", "--output", text)
    assert made.returncode == 0, made.stderr
    metadata = json.loads((text / "metadata.json").read_text())
    (text / "metadata.json").write_text(
        json.dumps(metadata | {"prompt": "\x1b[31m \x7f \x9b \u202e", "model": "a\nWRONG b"})
    )
    sealed_again(text)
    (text / "evil\x1b[2J\nWRONG name").write_text("x")
    shown, checked = run("show", text), run("verify", text)
    as_json = run("show", text, "--json")
    assert checked.returncode == 1
    for done in (shown, checked, as_json):
        assert not ACTS.search(done.stdout + done.stderr)
    assert json.loads(as_json.stdout)["prompt"] == "\x1b[31m \x7f \x9b \u202e"
    assert all(line.startswith(("WRONG ", str(text))) for line in checked.stdout.splitlines())
    assert "WRONG name" not in checked.stdout.splitlines()


def test_errors_and_log_lines_are_one_line_each_and_harmless(tmp_path, capsys):
    for argument in (f"no{HARMFUL}such".replace("\x00", ""), "no\x1b]8;;http://x\x07such"):
        done = run("show", tmp_path / argument.replace("/", ""))
        assert done.returncode in (1, 2)
        assert not ACTS.search(done.stderr)
        assert len(done.stderr.splitlines()) == 2
    record = logging.LogRecord("actlab", logging.INFO, "", 0, "%s: read", (f"a\n{HARMFUL} http://ann:pw@box",), None)
    line = LineFormatter().format(record)
    assert not ACTS.search(line)
    assert "\n" not in line
    assert "pw" not in line
    echo(HARMFUL, err=True)
    assert not ACTS.search(capsys.readouterr().err)


def test_a_traceback_in_the_log_is_harmless_and_without_secrets():
    try:
        raise ValueError(f"a{HARMFUL}\x1b]8;;http://x\x07b http://ann:pw@box")
    except ValueError:
        record = logging.LogRecord("actlab", logging.ERROR, "", 0, "it failed", (), sys.exc_info())
    record.stack_info = "Stack\x1b[2J"
    shown = LineFormatter().format(record)
    assert not ACTS.search(shown)
    assert "pw@" not in shown
    assert shown.startswith("it failed\nTraceback (most recent call last):\n")
    assert shown.endswith("Stack\\u001b[2J")


def test_all_commands_print_through_one_function():
    commands = Path(__file__).parent.parent / "src" / "actlab" / "cli"
    for path in commands.glob("*.py"):
        printing = re.findall(r"\b(?:click\.s?echo|print|sys\.std\w+\.write)\(", path.read_text())
        assert len(printing) == (path.name == "common.py"), path.name


# Advice


class Pickled:
    def __reduce__(self):
        return (Path.cwd, ())


def test_no_error_passes_on_the_advice_to_run_what_a_file_says(tmp_path):
    shard, table = tmp_path / "shard_000.pt", tmp_path / "x.npz"
    saved = io.BytesIO()
    torch.save([torch.nn.Linear(1, 1)], saved)
    for content in (pickle.dumps(Pickled()), b"\0" * 100, saved.getvalue()):
        shard.write_bytes(content)
        with pytest.raises(ActlabError) as refusal:
            read_shard(shard)
        assert not re.search("weights.only|safe_globals|trust|allow", str(refusal.value), re.IGNORECASE)
        assert "pickled objects" in str(refusal.value)
    for arrays in ({"X": np.array([[Pickled()]], object), "y": np.zeros(1)}, None):
        if arrays is None:
            table.write_bytes(b"neither a zip nor anything else")
        else:
            np.savez(table, **arrays)
        with pytest.raises(ActlabError) as refusal:
            load_dataset(table)
        assert not re.search("allow_pickle|trust", str(refusal.value), re.IGNORECASE)


def test_a_checkpoint_that_cannot_be_read_is_two_lines(tmp_path, monkeypatch):
    from actlab.text.train_gpt import checkpoints

    def advise(*_: object, **__: object) -> None:
        raise pickle.UnpicklingError("Weights only load failed. Re-running with `weights_only=False` will work")

    kept = checkpoints.Checkpoints(tmp_path / "c", "0123456789ab")
    kept.save({"step": 1})
    monkeypatch.setattr(torch, "load", advise)
    with pytest.raises(ActlabError, match="pickled objects") as refusal:
        kept.load(overwrite=False)
    assert "remove it" in refusal.value.hint

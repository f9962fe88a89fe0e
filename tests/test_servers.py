"""A model server fails in many ways: no text is lost or taken twice, and each failure is named."""

import gzip
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import ollama
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actlab.ground.errors import ConfigError, DataError, StorageError
from actlab.servers import attempts, wire
from actlab.servers.calls import CallError, Endpoint, Reply, Request, ServerError, Timings
from actlab.servers.environment import ServerEnvironment, ollama_url, read_environment
from actlab.servers.journal import Journal
from actlab.servers.limits import PRESETS, TimeoutLimits, limits_for
from actlab.servers.ollama import OLLAMA, context_for
from actlab.servers.openai import OPENAI, events
from actlab.servers.pauses import retry_after_s
from actlab.servers.run import BROKEN, DONE, EXHAUSTED, Pace, Window, next_pace, run_requests
from actlab.servers.sentences import trim_to_sentence
from actlab.servers.server import Server, server_of
from actlab.servers.thoughts import split_thoughts
from actlab.servers.wire import Answer, OpenCalls, Watch
from tests import conformance_server
from tests.conformance_server import DIGEST, MODEL, RUNNER_STOPPED, Conformance, Fault, busy, serve, tokens_of

SOON = TimeoutLimits(connect_s=1, first_token_s=0.15, idle_s=0.1, total_s=0.6, evaluation_s=0.3, load_s=2)
PATIENT = TimeoutLimits(connect_s=2, first_token_s=5, idle_s=5, total_s=5, evaluation_s=5, load_s=5)
DIALECTS = {"ollama": OLLAMA, "openai": OPENAI}


def server_at(conformance: Conformance, api: str = "ollama", limits: TimeoutLimits = PATIENT, **more: Any) -> Server:
    url = conformance.url + ("/v1" if api == "openai" else "")
    return Server(dialect=DIALECTS[api], endpoint=Endpoint(base_url=url, model=MODEL, limits=limits, **more))


def request(k: int = 0, prompt: str = "a fish", **more: Any) -> Request:
    return Request(k=k, prompt=prompt, **{"seed": 7, **more})


def whole_text(prompt: str = "a fish", seed: int = 7) -> str:
    return "".join(tokens_of(prompt, seed, 1 << 30)[0])


def ask(server: Server, asked: Request, slept: list[float] | None = None) -> Reply:
    kept = slept if slept is not None else []
    return attempts.generate(server.dialect, server.endpoint, asked, calls=OpenCalls(kept.append))


@pytest.fixture(params=["ollama", "openai"])
def api(request: pytest.FixtureRequest) -> str:
    return request.param


# One request


def test_a_reply_is_the_whole_text_and_counts_what_the_server_counted(api):
    with serve() as there:
        reply = ask(server_at(there, api), request())
    assert reply.text == whole_text()
    assert (reply.done_reason, reply.attempts, reply.failed) == ("stop", 1, False)
    assert reply.n_tokens_teacher == len(tokens_of("a fish", 7, 150)[0])
    assert 0 < reply.timings.first_token_s <= reply.timings.total_s


def test_the_last_of_an_unchunked_reply_is_not_waited_for(api):
    with serve(http="HTTP/1.0", token_delay_s=0.004) as there:
        reply = ask(server_at(there, api, SOON), request())
    assert reply.text == whole_text()
    assert reply.timings.first_token_s < reply.timings.total_s / 2, "it streams"


def test_ollama_is_told_not_to_think_and_keeps_its_options_and_model(api):
    with serve() as there:
        server = server_at(there, api, options={"num_ctx": 512}, api_key="sk-secret")
        ask(server, request(seed=(1 << 40) + 5, stop=("END",), schema={"type": "object"}))
    (body,) = there.bodies
    if api == "ollama":
        assert body["think"] is False
        assert body["options"] == {
            "num_ctx": 512, "seed": 5, "temperature": 0.8, "num_predict": 150, "stop": ["END"]
        }  # fmt: skip
        assert body["keep_alive"] == "30m"
        assert body["format"] == {"type": "object"}
    else:
        assert (body["seed"], body["max_tokens"], body["stop"]) == (5, 150, ["END"])
        assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["stream"] is True
    assert "sk-secret" not in repr(server)
    assert there.keys == ["Bearer sk-secret"]


def test_a_reply_cut_by_length_ends_with_its_last_whole_sentence_or_is_dropped(api):
    tokens, _ = tokens_of("a fish", 7, 1 << 30)
    first = tokens.index(".")
    assert len(tokens) > first + 3
    with serve() as there:
        server = server_at(there, api)
        cut = ask(server, request(max_tokens=first + 3))
        dropped = ask(server, request(max_tokens=first - 1))
        judged = ask(server, request(max_tokens=first + 3, schema={"type": "object"}))
    assert (cut.text, cut.done_reason) == ("".join(tokens[: first + 1]), "length")
    assert (dropped.text, dropped.done_reason, dropped.failed) == ("", "length", False)
    assert judged.text == "", "half of a JSON value is worth nothing"
    assert dropped.attempts == 1


AFTER = tokens_of("a fish", 7, 1 << 30)[0].index(".") + 3
FIRST_SENTENCE = "".join(tokens_of("a fish", 7, AFTER - 2)[0])
MID_STREAM = {
    "stall": (Fault("stall", after=AFTER, delay_s=3), "timeout", "silent for 0.1 s"),
    "end without done": (Fault("eof", after=AFTER), "cut", "ended without its end marker"),
    "error line": (Fault("error_line", after=AFTER, message="it broke"), "error", "it broke"),
    "torn line": (Fault("torn", after=AFTER), "cut", "a torn"),
    "reset": (Fault("reset", after=AFTER), "unreachable", "reset"),
}


@pytest.mark.parametrize("name", MID_STREAM)
def test_the_whole_sentences_that_came_before_a_failure_are_kept_and_not_asked_for_again(api, name):
    fault, reason, problem = MID_STREAM[name]
    with serve(always=fault) as there:
        reply = ask(server_at(there, api, SOON), request())
    assert FIRST_SENTENCE.endswith(".")
    assert reply.text == FIRST_SENTENCE
    assert (reply.done_reason, reply.attempts, reply.failed) == (reason, 1, False)
    assert problem in reply.problem
    assert there.asked["a fish"] == 1


@pytest.mark.parametrize("name", MID_STREAM)
def test_a_failure_before_the_first_sentence_leaves_nothing_and_says_why(api, name):
    fault, reason, _ = MID_STREAM[name]
    early = Fault(fault.kind, after=2, delay_s=fault.delay_s, message=fault.message)
    with serve(always=early) as there:
        reply = ask(server_at(there, api, SOON), request())
    assert (reply.text, reply.done_reason, reply.failed) == ("", reason, True)
    assert there.asked["a fish"] == reply.attempts == {"stall": 2, "reset": 4}.get(name, 1)
    if name == "stall":
        asked = [body.get("max_tokens") or body["options"]["num_predict"] for body in there.bodies]
        assert asked == [150, 75], "a time-out is tried once more with half the tokens"


def test_each_limit_is_kept_and_named(api):
    with serve(always=Fault("slow", delay_s=5)) as there:
        slow = ask(server_at(there, api, SOON), request(max_tokens=1))
    assert (slow.done_reason, slow.problem) == ("timeout", "no first token after 0.15 s")
    patient_at_first = replace(SOON, first_token_s=5, total_s=5)
    with serve(always=Fault("stall", after=2, delay_s=1)) as there:
        silent = ask(server_at(there, api, patient_at_first), request())
    assert (silent.done_reason, silent.problem) == ("timeout", "silent for 0.1 s")
    with serve(token_delay_s=0.05) as there:
        drip = ask(server_at(there, api, SOON), request(prompt="a bird"))
    assert len(tokens_of("a bird", 7, 150)[0]) > 12, "more than 0.6 s"
    assert (drip.done_reason, drip.problem) == ("timeout", "not done after 0.6 s")
    assert drip.text
    assert whole_text("a bird").startswith(drip.text)


def test_the_nearest_limit_comes_first_by_a_fake_clock():
    now = [0.0]
    watch = Watch(PRESETS["gpu"], lambda: now[0])
    assert watch.next_limit()[0] == 30
    now[0] = 21.0
    watch.saw_token()
    assert watch.next_limit() == (9.0, "not done after 30 s")
    now[0] = 12.0
    watch = Watch(PRESETS["gpu"], lambda: now[0])
    watch.saw_token()
    now[0] = 15.0
    assert watch.next_limit() == (7.0, "silent for 10 s")


@pytest.mark.parametrize(("kind", "reason"), [("thinking", "thought"), ("empty", "empty")])
def test_an_end_marker_without_text_is_a_failure(api, kind, reason):
    with serve(always=Fault(kind)) as there:
        reply = ask(server_at(there, api), request())
    assert (reply.text, reply.done_reason, reply.failed, reply.attempts) == ("", reason, True, 1)


def test_what_passes_by_itself_is_tried_again_with_growing_pauses_or_as_the_server_says(api):
    passing = [busy(), Fault("status", status=502), Fault("status", status=500, message=RUNNER_STOPPED)]
    slept: list[float] = []
    with serve(faults={"a fish": list(passing)}) as there:
        reply = ask(server_at(there, api), request(), slept)
    assert (reply.text, reply.attempts, reply.throttled) == (whole_text(), 4, 1)
    assert all(0 <= pause <= bound for pause, bound in zip(slept, [0.5, 1.0, 2.0], strict=True))
    assert len(set(slept)) == 3, "drawn, not fixed"

    slept = []
    with serve(faults={"a fish": [busy("7"), Fault("status", status=429, headers={"Retry-After": "0"})]}) as there:
        reply = ask(server_at(there, api), request(), slept)
    assert (reply.attempts, reply.throttled, slept[0]) == (3, 2, 7.0)
    assert slept[1] <= 1.0

    with serve(always=busy("3600")) as there:
        assert ask(server_at(there, api), request(), slept).attempts == 1, "nobody waits for an hour"
    with serve(always=busy()) as there:
        reply = ask(server_at(there, api), request())
    assert (reply.attempts, reply.done_reason) == (4, "error")
    assert reply.problem.startswith("503 server busy")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_what_does_not_pass_is_asked_once(api, status):
    with serve(always=Fault("status", status=status, message="no")) as there:
        reply = ask(server_at(there, api), request())
    assert (reply.attempts, reply.problem, there.asked["a fish"]) == (1, f"{status} no", 1)
    assert reply.done_reason == ("error" if status == 500 else "refused")


def test_a_dropped_connection_is_tried_again_and_so_is_a_server_that_is_gone(api):
    with serve(faults={"a fish": [Fault("drop"), Fault("reset", after=1)]}) as there:
        reply = ask(server_at(there, api), request())
        gone = server_at(there, api)
    assert (reply.text, reply.attempts) == (whole_text(), 3)
    slept: list[float] = []
    reply = ask(gone, request(), slept)
    assert (reply.done_reason, reply.attempts, len(slept)) == ("unreachable", 4, 3)


def test_a_key_is_in_no_message_even_where_the_server_repeats_it():
    with serve(always=Fault("status", status=400, message="bad key sk-secret given")) as there:
        reply = ask(server_at(there, "openai", api_key="sk-secret"), request())
    assert reply.problem == "400 bad key *** given"


@pytest.mark.parametrize("secret", ["pass-word-of-ann", "YW5uOnBhc3Mtd29yZC1vZi1hbm4=", "sk-0123456789"])
def test_a_text_that_repeats_the_key_or_the_login_is_none(api, secret, monkeypatch):
    monkeypatch.setattr(conformance_server, "tokens_of", lambda *asked: (["The code", f" is {secret}", "."], "stop"))
    login = "" if secret.startswith("sk-") else "ann:pass-word-of-ann"
    with serve() as there:
        reply = ask(server_at(there, api, api_key="sk-0123456789", login=login), request())
        assert ask(server_at(there, api), request()).text == f"The code is {secret}."
    assert (reply.text, reply.done_reason, reply.failed) == ("", "secret", True)
    assert secret not in json.dumps(reply.as_json())


def test_retry_after_is_seconds_or_a_date_and_nothing_else():
    assert retry_after_s({"Retry-After": "12"}, now=0) == 12
    assert retry_after_s({"Retry-After": "Thu, 01 Jan 1970 00:02:00 GMT"}, now=100) == 20
    assert retry_after_s({"Retry-After": "Thu, 01 Jan 1970 00:02:00 GMT"}, now=500) == 0
    assert [retry_after_s({"Retry-After": text}, now=0) for text in ("", "soon", "-3", "²")] == [0, 0, 0, 0]


@given(st.lists(st.sampled_from([b"a", b"\r\n", b"\n", "é水".encode(), b'{"x":1}', b"\r"])), st.randoms())
def test_lines_do_not_depend_on_how_the_bytes_arrive(parts, rng):
    sent = b"".join(parts)
    cuts = sorted({0, len(sent), *(rng.randint(0, len(sent)) for _ in range(5))})
    arriving = [sent[start:end] for start, end in itertools.pairwise(cuts)] + [b""]
    response = SimpleNamespace(
        status_code=200, headers={}, raw=SimpleNamespace(read1=lambda decode_content: arriving.pop(0))
    )
    connection = SimpleNamespace(settimeout=lambda left_s: None, fileno=lambda: 3)
    got = list(Answer(response, connection, Watch(PATIENT), OpenCalls()).lines())
    expected = [line.rstrip(b"\r") for line in sent.split(b"\n")]
    assert [line.rstrip(b"\r") for line in got] == (expected if sent.split(b"\n")[-1].strip() else expected[:-1])


def test_a_surrogate_pair_that_came_in_two_pieces_is_one_letter_and_a_lone_half_is_marked():
    assert attempts.usable("\ud83d" + "\ude00 yes", "stop", prose=True) == "😀 yes"
    assert attempts.usable("no \ud83d", "stop", prose=True) == "no \ufffd"


# Whole sentences


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two. Thr", "One. Two."),
        ("He left! Did sh", "He left!"),
        ('"Stop!" she said. "Why', '"Stop!" she said.'),
        ("Add 2.5 cups. Then 3.", "Add 2.5 cups."),
        ("It was in 1990. Then", "It was in 1990."),
        ("See Dr. Brown and J. Smith", ""),
        ("1. Boil the water. 2", "1. Boil the water."),
        ("A list:\n1. Salt\n2. Pep", ""),
        ("Wait... what", "Wait..."),
        ("水が沸く。塩を", "水が沸く。"),
        ("nothing ends here", ""),
        ("... and so", ""),
        ("", ""),
    ],
)
def test_a_cut_text_ends_where_a_reader_would_end_it(text, kept):
    assert trim_to_sentence(text) == kept


@pytest.mark.parametrize(
    ("kept", "cut"),
    [
        ("सुबह किसान खेत की ओर चल पड़ा।", " उसके साथ उसकी"),
        ("بوڑھا مالی باغ میں آیا۔", " اس کی پوتی نے"),
        ("هل بقي شيء من كعك الأمس؟", " ابتسم وأعطاها"),
        ("Τι ώρα είναι;", " Και μετά ο ψαράς"),
        ("Արևը ծագեց։", " Նա գնաց"),
        ("သူ ဈေးသို့ သွားသည်။", " သူ၏ သမီး"),
        ("ልጁ ወደ ገበያ ሄደ።", " እናቱ"),
        ("ខ្ញុំទៅផ្សារ។", " គាត់"),
        ("ང་ཁྲོམ་ལ་འགྲོ།", " ཁོང་"),
        ("แม่พาลูกสาวไปเดินตลาด พวกเขาซื้อผักสด", " ระหว่างทางกลับบ้านฝนเริ่ม"),
        ("ແມ່ໄປຕະຫຼາດ", " ລູກສາວຢາກກິນ"),
        ("「本当？」", "弟は少し"),
        ("そうです．", "値段は２．５"),
        ("उसने कहा: “चलो।”", " फिर वह"),
        ("Он вышел из дома.", " Над рекой стоял"),
    ],
)
def test_a_text_of_every_script_is_cut_at_a_sentences_end(kept, cut):
    assert trim_to_sentence(kept + cut) == kept


@pytest.mark.parametrize(
    "text",
    [
        "We call the angle α; and then",
        "The word ไป มา means",
        "１．お湯を",
        pytest.param("." * 30_000 + "ж", id="dots"),
    ],
)
def test_other_scripts_ends_are_none_in_latin_text_and_in_numbers(text):
    assert trim_to_sentence(text) == ""


@given(st.text(alphabet="abc A.1?!\n\"'。)", max_size=60))
def test_trimming_takes_from_the_end_alone_and_takes_nothing_twice(text):
    kept = trim_to_sentence(text)
    assert text.strip().startswith(kept)
    assert kept == "" or set(kept.rstrip("\"')")[-1]) <= set(".?!。")
    assert len(trim_to_sentence(kept)) <= len(kept)


# Before a run


def test_the_facts_are_the_servers_and_loading_has_its_own_limit():
    with serve(load_delay_s=0.4) as there:
        server = server_at(there, limits=SOON)
        facts = server.preflight()
        assert (facts.model, facts.digest) == (MODEL, DIGEST)
        cold = ask(server, request(max_tokens=1))
        assert cold.done_reason == "timeout", "a cold model passes the limit for the first token"
        warmth = server.warm_up()
        assert warmth.on_gpu is False
        assert ask(server, request()).text == whole_text()
        n_loads = there.n_loads
        ask(server, request(k=1, prompt="other"))
        assert there.n_loads == n_loads, "no request loads the model anew"


def test_an_openai_server_whose_list_fails_is_still_used_and_keys_are_checked():
    with serve(models_status=500) as there:
        server = server_at(there, "openai")
        assert server.preflight().model == MODEL
        server.warm_up()
        assert ask(server, request()).text == whole_text()
    with serve(models_status=401) as there, pytest.raises(ServerError, match="does not let us in"):
        server_at(there, "openai").preflight()


def test_what_is_wrong_before_a_run_is_said_in_two_lines():
    with serve() as there:
        with pytest.raises(ServerError, match="no model 'nope'") as caught:
            server_of("ollama", "nope", environment=ServerEnvironment(ollama_url=there.url)).preflight()
        assert "ollama pull nope" in caught.value.hint
        assert MODEL in caught.value.hint
        nope = server_of("openai", "nope", environment=ServerEnvironment(), base_url=there.url)
        with pytest.raises(ServerError, match="refuses 'nope': 404 model 'nope' not found"):
            nope.warm_up()
        with pytest.raises(ServerError, match="is no Ollama: /api/version answers 404"):
            server_of("ollama", "x", environment=ServerEnvironment(ollama_url=f"{there.url}/v1")).preflight()
        url = there.url
    with pytest.raises(ServerError, match="does not answer") as caught:
        server_of("ollama", "tiny", environment=ServerEnvironment(ollama_url=url)).preflight()
    assert "OLLAMA_HOST" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://example.org", "http://example.org:80"),
        ("https://example.org/x/", "https://example.org:443/x"),
        (":7000", "http://127.0.0.1:7000"),
        ("[::]:9", "http://[::1]:9"),
        ("::1", "http://[::1]:11434"),
    ],
)
def test_a_host_is_read_as_ollama_itself_reads_it(host, url):
    assert ollama_url(host) == url
    if host != "::1":  # which the official client does not take
        callable_ = host.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
        assert httpx.URL(url) == httpx.URL(str(ollama.Client(host=callable_)._client.base_url).rstrip("/"))


def test_the_environment_is_read_once_and_what_is_wrong_in_it_is_said():
    name = "TEXT2GPT1_OLLAMA_TIMEOUT_"
    times = {f"{name}PRESET": "GPU", f"{name}CONNECTION": "2", f"{name}GENERATION": "40", f"{name}EVALUATION": "9"}
    others = {"TEXT2GPT1_OLLAMA_REQUEST_INTERVAL": "0.5", "OLLAMA_HOST": "box:1", "OPENAI_API_KEY": " sk-secret "}
    read = read_environment(times | others)
    assert (read.ollama_url, read.request_interval_s, read.api_key) == ("http://box:1", 0.5, "sk-secret")
    assert "sk-secret" not in repr(read)
    limits = limits_for("auto", read)
    assert (limits.connect_s, limits.first_token_s, limits.idle_s, limits.total_s, limits.evaluation_s) == (
        2,
        40,
        10,
        40,
        9,
    )
    assert limits_for("cpu", read).idle_s == 60, "a preset that is asked for comes before the environment's"
    judging = limits.for_evaluation()
    assert (judging.connect_s, judging.first_token_s, judging.total_s) == (2, 9, 9)
    nothing = read_environment({})
    assert limits_for("auto", nothing) == PRESETS["cpu"]
    assert limits_for("auto", nothing, on_gpu=True) == PRESETS["gpu"]
    assert (PRESETS["gpu"].connect_s, PRESETS["gpu"].total_s, PRESETS["gpu"].evaluation_s) == (5, 30, 10)
    assert (PRESETS["cpu"].connect_s, PRESETS["cpu"].total_s, PRESETS["cpu"].evaluation_s) == (5, 300, 60)
    for wrong in ({f"{name}GENERATION": "soon"}, {f"{name}CONNECTION": "-1"}, {f"{name}EVALUATION": "nan"},
                  {"OLLAMA_HOST": "ftp://x"}, {"OLLAMA_HOST": "a b"}, {"OPENAI_API_KEY": "sk\nsecret"}):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            read_environment(wrong)
        assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="no time-out preset"):
        limits_for("tpu", nothing)


# Many requests


def requests(n: int, prompt: str = "p") -> Iterator[Request]:
    return (request(k, f"{prompt}{k}", seed=k) for k in range(n))


class Taken:
    """What a run's reader got."""

    def __init__(self, enough: int = 1 << 30) -> None:
        self.replies: list[Reply] = []
        self.enough = enough

    def __call__(self, reply: Reply) -> None:
        self.replies.append(reply)

    def stop(self) -> bool:
        return sum(len(reply.text) for reply in self.replies) >= self.enough

    @property
    def texts(self) -> list[tuple[int, str, str]]:
        return [(reply.k, reply.text, reply.done_reason) for reply in self.replies]


def run(there: Conformance, path: Path, n: int = 24, limit: int = 8, enough: int = 1 << 30, api: str = "ollama",
        limits: TimeoutLimits = PATIENT, **more: Any):  # fmt: skip
    taken = Taken(enough)
    with Journal(path) as journal:
        summary = run_requests(
            server_at(there, api, limits),
            requests(n),
            limit=limit,
            journal=journal,
            on_reply=taken,
            stop=taken.stop,
            **more,
        )
    return taken, summary


def mixed_faults(prompt: str, nth: int) -> Fault | None:
    """Faults that fall on the same prompts however many are asked at a time."""
    rng = random.Random(prompt)
    kind = rng.choice(["", "", "", "eof", "error_line", "torn", "busy", "drop", "empty"])
    if kind in ("busy", "drop"):
        return None if nth else busy("0") if kind == "busy" else Fault("drop")
    return Fault(kind, after=rng.randint(0, 20)) if kind else None


def test_one_at_a_time_and_eight_give_the_same_in_the_same_order(tmp_path, api):
    results = []
    for limit in (1, 8):
        with serve(n_parallel=8, token_delay_s=0.0002, fault_of=mixed_faults) as there:
            taken, summary = run(
                there, tmp_path / f"{limit}.jsonl", 50, limit, enough=1200, api=api, pause=lambda s: None
            )
        assert summary.ended == DONE
        assert 1 <= there.most_open <= limit
        assert there.most_open > 1 or limit == 1
        assert max(there.asked.values()) <= 2
        results.append(taken.texts)
    assert results[0] == results[1]
    assert [k for k, _, _ in results[0]] == list(range(len(results[0]))), "the shortest prefix, nothing left out"
    assert {reason for _, _, reason in results[0]} >= {"stop", "cut"}


def test_an_overloaded_server_turns_requests_away_and_still_gets_each_once(tmp_path):
    with serve(n_parallel=1, max_queue=1, load_delay_s=0.03) as there:
        there.fault_of = lambda prompt, nth: busy("0") if nth == 0 and int(prompt[1:]) % 3 == 0 else None
        taken, summary = run(there, tmp_path / "j.jsonl", 20, 8, pause=lambda s: None)
    assert [reply.text for reply in taken.replies] == [whole_text(f"p{k}", k) for k in range(20)]
    assert there.most_at_work == 1
    assert set(there.answered.values()) == {1}
    assert there.n_turned_away >= 7
    assert summary.ended == EXHAUSTED


def test_nothing_is_asked_twice_after_a_stop_at_any_line(tmp_path):
    n = 12
    with serve(n_parallel=8) as there:
        whole, _ = run(there, tmp_path / "whole.jsonl", n, 4)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == n
    for kept in range(n + 1):
        path = tmp_path / f"{kept}.jsonl"
        torn = lines[kept][: len(lines[kept]) // 2] if kept < n else b""
        path.write_bytes(b"".join(lines[:kept]) + torn)
        with serve(n_parallel=8) as there:
            again, _ = run(there, path, n, 4)
        known = {json.loads(line)["k"] for line in lines[:kept]}
        assert sorted(there.asked) == sorted(f"p{k}" for k in range(n) if k not in known)
        assert again.texts == whole.texts
        assert len(path.read_bytes().splitlines()) == n


def test_a_journal_of_other_words_another_model_or_another_seed_answers_nothing(tmp_path):
    with serve() as there:
        server = server_at(there)
        run(there, tmp_path / "j.jsonl", 1)
        with Journal(tmp_path / "j.jsonl") as journal:
            one = request(0, "p0", seed=0)
            assert journal.get(0, server.key(one)).text == whole_text("p0", 0)
            assert journal.get(1, server.key(one)) is None
            for other in (request(0, "p1", seed=0), request(0, "p0", seed=1), request(0, "p0", seed=0, max_tokens=9)):
                assert journal.get(0, server.key(other)) is None
            assert journal.get(0, server.known(server.preflight()).key(one)) is None


def test_a_journal_keeps_every_text_as_it_was_and_refuses_what_is_none(tmp_path):
    path = tmp_path / "j.jsonl"
    odd = Reply(k=3, text="é\u2028\ud800 \x00 水", done_reason="cut", timings=Timings(total_s=1.5), problem="x\ny")
    with Journal(path) as journal:
        journal.append("key", odd)
    with Journal(path) as journal:
        assert journal.get(3, "key") == odd
    path.write_bytes(path.read_bytes() + b'{"k": 1}\n')
    with pytest.raises(DataError, match=r"j.jsonl:2 is not a line"):
        Journal(path)


def test_a_journal_that_another_run_goes_on_writing_is_not_cut(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"key": "cut')
    one, two, three = (Reply(k=k, text=str(k), done_reason="stop", timings=Timings(total_s=1.0)) for k in (1, 2, 3))
    late, torn = Journal(path), Journal(path)
    with torn as journal:
        assert path.read_bytes() == b"", "a torn line is cut off"
        journal.append("key", one)
        journal.append("key", two)
        with late as other:
            other.append("key", three)
    with Journal(path) as journal:
        assert [journal.get(k, "key") for k in (1, 2, 3)] == [one, two, three]


def test_failures_are_replayed_unless_the_server_was_mended(tmp_path):
    path = tmp_path / "j.jsonl"
    with serve(always=Fault("status", status=500)) as there:
        taken, summary = run(there, path, 10, 1)
        assert (summary.ended, len(taken.replies), summary.problem) == (BROKEN, 3, "error: 500 it failed")
        before = there.asked.total()
        again, _ = run(there, path, 10, 1)
        assert (again.texts, there.asked.total()) == (taken.texts, before)
    with Journal(path, forget_failures=True) as journal:
        assert len(journal) == 0


def test_three_failures_in_a_row_end_a_run_and_two_do_not(tmp_path):
    def fault_of(bad: set[int]):
        return lambda prompt, nth: Fault("status", status=404) if int(prompt[1:]) in bad else None

    for limit in (1, 8):
        with serve(fault_of=fault_of({1, 2, 4, 5, 7, 8, 9})) as there:
            taken, summary = run(there, tmp_path / f"{limit}.jsonl", 30, limit)
        assert summary.ended == BROKEN
        assert [reply.k for reply in taken.replies] == list(range(10))


def test_a_run_that_has_enough_closes_what_is_on_its_way(tmp_path):
    def fault_of(prompt: str, nth: int) -> Fault | None:
        return Fault("slow", delay_s=30) if int(prompt[1:]) >= 12 else None

    with serve(n_parallel=8, fault_of=fault_of, token_delay_s=0.002) as there:
        started = time.monotonic()
        enough = sum(len(whole_text(f"p{k}", k)) for k in range(12))
        taken, summary = run(there, tmp_path / "j.jsonl", 100, 8, enough=enough)
        assert time.monotonic() - started < 10, "it does not wait for what it does not want"
        wait_until(lambda: there.n_cancelled == sum(there.asked.values()) - sum(there.answered.values()))
        assert there.n_open == 0
    assert (summary.ended, len(taken.replies)) == (DONE, 12)
    assert all(json.loads(line)["k"] < 12 for line in (tmp_path / "j.jsonl").read_text().splitlines())


def wait_until(condition) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come")


def test_an_interrupt_loses_nothing_that_had_finished_and_cancels_the_rest(tmp_path):
    path = tmp_path / "j.jsonl"
    taken = Taken()

    def interrupted(reply: Reply) -> None:
        taken(reply)
        if len(taken.replies) == 9:
            signal.raise_signal(signal.SIGINT)

    with serve(n_parallel=8, token_delay_s=0.001) as there:
        with pytest.raises(KeyboardInterrupt), Journal(path) as journal:
            run_requests(server_at(there), requests(40), limit=8, journal=journal, on_reply=interrupted)
        wait_until(lambda: there.n_open == 0)
        written = {json.loads(line)["k"] for line in path.read_text().splitlines()}
        assert set(range(9)) <= written
        before = dict(there.asked)
        again, _ = run(there, path, 40, 8)
    assert [reply.text for reply in again.replies] == [whole_text(f"p{k}", k) for k in range(40)]
    for prompt, n in there.asked.items():
        assert n == before.get(prompt, 0) + (int(prompt[1:]) not in written), "what is in the journal is not asked for"
    assert not [one for one in threading.enumerate() if one.name.startswith("server")]


def test_an_interrupt_while_nothing_comes_is_heard_at_once(tmp_path):
    path = tmp_path / "j.jsonl"
    with serve(fault_of=lambda prompt, nth: Fault("slow", delay_s=30) if prompt == "p3" else None) as there:

        def press() -> None:
            wait_until(lambda: there.asked["p3"])
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        interrupt = threading.Thread(target=press)
        interrupt.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt), Journal(path) as journal:
            run_requests(server_at(there), requests(9), limit=1, journal=journal, on_reply=lambda reply: None)
        interrupt.join()
        assert time.monotonic() - started < 4, "the limit is 5 s, the server's delay 30"
        wait_until(lambda: there.n_cancelled == 1)
    assert [json.loads(line)["k"] for line in path.read_text().splitlines()] == [0, 1, 2]


def test_requests_start_no_closer_than_the_interval_and_retries_are_requests(tmp_path):
    now = [0.0]
    starts: list[float] = []

    def fault_of(prompt: str, nth: int) -> Fault | None:
        starts.append(now[0])
        return busy("0") if nth < 2 else None

    def pause(seconds: float) -> None:
        now[0] += seconds

    with serve(fault_of=fault_of) as there:
        run(there, tmp_path / "j.jsonl", 3, 1, interval_s=100.0, pause=pause, clock=lambda: now[0])
    assert starts == [100.0 * nth for nth in range(9)]


# Servers as they are met


@pytest.mark.parametrize("knobs", [{"http": "HTTP/1.0"}, {"close": True}], ids=["HTTP/1.0", "Connection: close"])
def test_a_server_that_ends_each_connection_with_its_answer_is_like_any_other(api, knobs):
    with serve(**knobs) as there:
        server = server_at(there, api)
        assert server.preflight().model == MODEL
        server.warm_up()
        assert ask(server, request()).text == whole_text()
        there.always = Fault("page", status=200, message=WHOLE[api])  # with its length
        assert ask(server, request()).text == "It rains."
        there.always = Fault("status", status=401, message="no such key")
        refused = ask(server, request())
    assert (refused.done_reason, refused.problem, refused.attempts) == ("refused", "401 no such key", 1)


def test_a_text_without_end_is_cut_as_by_length_and_its_call_closed(api):
    with serve(always=Fault("flood", message="And on it goes. ")) as there:
        reply = ask(server_at(there, api), request(max_tokens=20))
        judged = ask(server_at(there, api), request(max_tokens=20, schema={"type": "object"}))
        wait_until(lambda: there.n_cancelled == 2)
    assert (reply.done_reason, reply.failed, reply.attempts) == ("length", False, 1)
    assert reply.text == " ".join(["And on it goes."] * (len(reply.text) // 16 + 1))
    assert 20 * 30 < len(reply.text) < 20 * 100, "room for any 20 tokens, and no more"
    assert (judged.text, judged.done_reason) == ("", "length")


def test_one_line_is_no_way_around_the_limit(api):
    text = "And on it goes. " * 200_000
    line = json.dumps({"response": text} if api == "ollama" else {"choices": [{"delta": {"content": text}}]})
    start = "" if api == "ollama" else "data: "
    with serve(always=Fault("page", status=200, message=f"{start}{line}\n\n")) as there:
        reply = ask(server_at(there, api), request(max_tokens=20))
        assert (reply.done_reason, len(reply.text) < 2000, reply.text[:5]) == ("length", True, "And o")
        there.always = Fault("page", status=200, message=start + "x" * 5_000_000)
        reply = ask(server_at(there, api), request())
    assert (reply.done_reason, reply.problem) == ("cut", "a line without end")


def test_a_reply_of_short_lines_without_end_fails_by_name(api, monkeypatch):
    monkeypatch.setattr(wire, "MOST_BYTES", 1 << 20, raising=False)
    thought = {
        "ollama": '{"thinking": "hm"}\n',
        "openai": 'data: {"choices": [{"delta": {"reasoning_content": "hm"}}]}\n\n',
    }[api]
    silence = {"ollama": "\n", "openai": ": still here\n\n"}[api]
    with serve() as there:
        for line in (thought, silence):
            there.always = Fault("page", status=200, message=line * ((2 << 20) // len(line)) + WHOLE[api])
            reply = ask(server_at(there, api), request())
            assert (reply.text, reply.done_reason, reply.failed) == ("", "cut", True)
            assert reply.problem == "a reply without end: more than 1 MiB"


def test_an_event_of_lines_without_end_fails_by_name():
    taken = itertools.count()
    lines = (b"data: {%d" % next(taken) for _ in range(3000))
    with pytest.raises(CallError, match="an event without end"):
        list(events(lines))
    assert next(taken) < 1100


DEEP = "[" * 100_000
WHOLE = {
    "ollama": '{"response": "It rains."}\n{"done": true}\n',
    "openai": 'data: {"choices": [{"delta": {"content": "It rains."}}]}\n\n'
    'data: {"choices": [{"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
}
WRONG_LINES = {
    "ollama": [DEEP, "5", "[1]", *(f'{{"response": {value}}}' for value in ("5", '["a"]', '{"a": 1}', "true")),
               '{"done": true, "done_reason": [1]}'],
    "openai": [DEEP, "5", "[1]", *(f'{{"choices": {value}}}' for value in ("{}", '"x"', "[1]", "[null]", "5")),
               '{"choices": [{"delta": "x"}]}', '{"choices": [{"delta": {"content": 5}}]}',
               '{"choices": [{"finish_reason": 5}]}', '{"usage": [1]}'],
}  # fmt: skip


def test_wrong_json_is_a_failed_reply_and_nothing_worse(api):
    for line in WRONG_LINES[api]:
        page = f"{line}\n" if api == "ollama" else f"data: {line}\n\n"
        with serve(always=Fault("page", status=200, message=page)) as there:
            reply = ask(server_at(there, api), request())
        assert (reply.text, reply.done_reason, reply.failed, reply.attempts) == ("", "cut", True, 1), line[:80]


@pytest.mark.parametrize("count", ['"many"', "-5", "[1]", "null", "1" + "0" * 4000, "true"])
def test_a_count_that_is_none_costs_no_text(api, count):
    end = (
        f'{{"done": true, "eval_count": {count}, "total_duration": {count}}}\n'
        if api == "ollama"
        else f'data: {{"choices": [{{"finish_reason": "stop"}}], "usage": {{"completion_tokens": {count}}}}}\n\n'
    )
    start = WHOLE[api].split("\n")[0]
    with serve(always=Fault("page", status=200, message=f"{start}\n\n{end}")) as there:
        reply = ask(server_at(there, api), request())
    assert (reply.text, reply.done_reason, reply.n_tokens_teacher) == ("It rains.", "stop", None)
    assert reply.timings.queue_s is None


def test_an_error_that_is_null_is_none(api):
    page = (
        WHOLE[api]
        .replace('{"response"', '{"error": null, "response"')
        .replace('{"choices"', '{"error": null, "choices"')
    )
    with serve(always=Fault("page", status=200, message=page)) as there:
        reply = ask(server_at(there, api), request())
    assert (reply.text, reply.done_reason, reply.problem) == ("It rains.", "stop", "")


def test_the_text_parts_of_a_list_are_the_text():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "It rains."}]
    line = json.dumps({"choices": [{"delta": {"content": parts}, "finish_reason": "stop"}]})
    with serve(always=Fault("page", status=200, message=f"data: {line}\n\n")) as there:
        assert ask(server_at(there, "openai"), request()).text == "It rains."


THOUGHT_AND_TEXT = {
    "DeepSeek-R1, Qwen3": "<think>\nA fish? Hm.\n</think>\n\nIt rains.",
    "without a thought": "<think>\n\n</think>\n\nIt rains.",
    "begun in the prompt": "A fish? Hm.\n</think>\n\nIt rains.",
    "in capitals": "<THINK>A fish? Hm.</Think>It rains.",
    "tuned for it": "<thinking>A fish? Hm.</thinking><answer>It rains.</answer>",
    "another": "<reasoning effort='low'>A fish? Hm.</reasoning> It rains.",
    "two": "<think>A fish?</think><think>Hm.</think>It rains.",
    "one in another": "<think>A fish? <think>Hm.</think> Yes.</think>It rains.",
    "Seed-OSS": "<seed:think>A fish? Hm.</seed:think>It rains.",
    "Magistral": "[THINK]A fish? Hm.[/THINK]It rains.",
    "Kimi-VL": "◁think▷A fish? Hm.◁/think▷It rains.",
    "Command A": "<|START_THINKING|>A fish? Hm.<|END_THINKING|><|START_RESPONSE|>It rains.<|END_RESPONSE|>",
    "Gemma 4": "<|channel>thought\nA fish? Hm.<channel|>It rains.",
    "gpt-oss": "<|channel|>analysis<|message|>A fish? Hm.<|end|><|start|>assistant<|channel|>final<|message|>It rains.",
    "gpt-oss without its tokens": "analysisA fish? Hm.assistantfinalIt rains.",
    "Granite 3.2": "Here is my thought process: A fish? Hm. Here is my response: It rains.",
}


def whole_of(api: str, text: str, **more: Any) -> dict[str, Any]:
    """The answer to a request for no stream."""
    if api == "ollama":
        return {"model": MODEL, "response": text, "done": True, "done_reason": "stop", "eval_count": 3, **more}
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **more}, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice], "usage": {"completion_tokens": 3}}


@pytest.mark.parametrize("whose", THOUGHT_AND_TEXT)
def test_a_thought_is_cut_from_the_text_by_every_mark_in_use(whose, api):
    page = Fault("page", status=200, message=json.dumps(whole_of(api, THOUGHT_AND_TEXT[whose])))
    with serve(always=page) as there:
        reply = ask(server_at(there, api), request())
    assert (reply.text, reply.done_reason, reply.problem) == ("It rains.", "stop", "")


@pytest.mark.parametrize(
    "whose", [one for one in THOUGHT_AND_TEXT if one not in ("without a thought", "begun in the prompt")]
)
def test_a_thought_that_does_not_end_is_no_text_and_says_so(whose):
    torn = THOUGHT_AND_TEXT[whose].partition("Hm.")[0]
    with serve(always=Fault("page", status=200, message=json.dumps(whole_of("ollama", torn)))) as there:
        reply = ask(server_at(there), request())
    assert (reply.text, reply.done_reason, reply.failed) == ("", "thought", True)
    assert reply.problem == "unfinished reasoning, no text"


@pytest.mark.parametrize(
    "text",
    [
        "I think, therefore I am.",
        "The <b>user</b> thinks.",
        "The user opens the menu.",
        "Okay, said Ann, the soup is ready.",
        "Analysis of the soup: it is good.",
        "analysis of soup. An assistant finally came.",
        "x < y, and y > z.",
        "Okay, the user interface of this kettle has one button.",
        "All right, the user manual says so.",
        "Okay, I have to write a letter today.",
        "Alright, we need to create more jobs.",
        "Hmm, I have to create a cake without eggs.",
        "Models such as R1 write `<think>` before they reason.",
        "The answer follows the tag `</think>`. Before it is the thought.",
        "```html\n</think>\n```\nThat is all.",
        "The tag </think> ends a thought, and <think> begins it.",
        'Write "</think>" there.',
        "In my XML, <reasoning>two plus two</reasoning> is an element.",
        "<Reflection> of light is the first chapter.",
        "The chapter is <Reflection> of light.",
        "<THINKING CAP> is the name of the shop.",
        "[think] tags are rare.",
        "The <|channel|> token begins a part.",
        "<|channel|> is a token.",
    ],
)
def test_what_only_looks_like_a_thought_stays(text):
    assert split_thoughts(text) == (text, False, False)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "<think>x</think> Rice is good. The tag </think> ends a thought. Done.",
            "Rice is good. The tag </think> ends a thought. Done.",
        ),
        ("<think>x</think>\n<answer>Four.</answer> And more.", "Four. And more."),
        ("<think>I end with `</think>`. Hm.</think> It rains.", "It rains."),
        ("<think>x</think> `<think>` begins a thought.", "`<think>` begins a thought."),
        ("<think>x</think>\n\n<think>y</think> It rains.", "It rains."),
        ("I wrote ```x``` and <think>.</think> Hm.\n</think>\nIt rains.", "It rains."),
        ("The user wants rain </think> It rains.", "It rains."),
    ],
)
def test_marks_in_what_follows_a_thought_are_its_words(text, left):
    assert split_thoughts(text) == (left, True, False)
    assert split_thoughts(left) == (left, False, False), "as in a journal that is read again"


def test_a_thought_that_was_begun_in_the_prompt_and_never_ends_is_known_by_how_it_begins():
    for start in (
        "Okay, the user wants a poem. ",
        "Alright, so I need to write three sentences. ",
        "Hmm, the user is asking for rice. ",
    ):
        assert split_thoughts(start + "Let me see.").unclosed


PARTS = ["<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "final<|message|>", "<answer>", "</answer>",
         "analysis", "A", "assistantfinal", "Okay, the user", " It rains. ", "\n"]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_what_is_left_of_a_reply_begins_with_no_thought_and_stays_as_it_is(text):
    said = split_thoughts(text)
    assert split_thoughts(said.text) == (said.text, False, False)
    left = iter(text)
    assert all(character in left for character in said.text), "nothing is added or moved"
    assert not re.match(r"\s*(<think>|\[THINK\]|<\|channel\|>final)", said.text)


def test_a_thought_is_cut_before_the_last_sentence_is_looked_for(api):
    whole = whole_of(api, "A fish. Hm.</think> It rains. Then the")
    if api == "ollama":
        whole["done_reason"] = "length"
    else:
        whole["choices"][0]["finish_reason"] = "length"
    with serve(always=Fault("page", status=200, message=json.dumps(whole))) as there:
        assert ask(server_at(there, api), request()).text == "It rains."


@pytest.mark.parametrize("names", ["reasoning_content", "reasoning", "thinking", "reasoning_details"])
def test_a_reply_of_reasoning_alone_is_a_thought_under_any_name(names):
    delta = {"choices": [{"delta": {"content": "", names: ["hm"] if "details" in names else "hm"}}]}
    end = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    page = "".join(f"data: {json.dumps(one)}\n\n" for one in (delta, end))
    with serve(always=Fault("page", status=200, message=page)) as there:
        reply = ask(server_at(there, "openai"), request())
    assert (reply.text, reply.done_reason, reply.failed, reply.attempts) == ("", "thought", True, 1)


REFUSED = {
    "in pieces": [{"delta": {"content": None, "refusal": "I can"}}, {"delta": {"refusal": "not do it."}}],
    "whole": [{"message": {"content": None, "refusal": "I cannot do it."}}],
    "a part": [{"message": {"content": [{"type": "refusal", "refusal": "I cannot do it."}]}}],
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_a_server_calls_a_refusal_is_no_text(form):
    *firsts, last = REFUSED[form]
    events = [{"choices": [one]} for one in (*firsts, {**last, "finish_reason": "stop"})]
    page = "".join(f"data: {json.dumps(one)}\n\n" for one in events) + "data: [DONE]\n\n"
    with serve(always=Fault("page", status=200, message=page)) as there:
        reply = ask(server_at(there, "openai"), request())
    assert (reply.text, reply.done_reason, reply.problem) == ("", "refusal", "refused: I cannot do it.")
    assert (reply.failed, reply.attempts) == (True, 1)


@pytest.mark.parametrize("start", ["", "\ufeff", "\r\n\n"], ids=["plain", "BOM", "empty lines"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_object_in_answer_to_a_request_for_a_stream_is_read(api, indent, start):
    page = start + json.dumps(whole_of(api, "It rains."), indent=indent)
    with serve(always=Fault("page", status=200, message=page, headers={"Content-Type": "application/json"})) as there:
        reply = ask(server_at(there, api), request())
    assert (reply.text, reply.done_reason, reply.problem, reply.n_tokens_teacher) == ("It rains.", "stop", "", 3)


def test_a_whole_object_may_be_compressed_or_an_error_or_a_thought(api):
    gzipped = gzip.compress(json.dumps(whole_of(api, "It rains. " * 500)).encode())
    with serve(always=Fault("page", status=200, message=gzipped, headers={"Content-Encoding": "gzip"})) as there:
        assert ask(server_at(there, api), request()).text == ("It rains. " * 500).strip()
        for error in ({"error": "no memory"}, {"error": {"message": "no memory"}}):
            there.always = Fault("page", status=200, message=json.dumps(error, indent=1))
            reply = ask(server_at(there, api), request())
            assert (reply.text, reply.done_reason, reply.problem) == ("", "error", "no memory")
        name = "thinking" if api == "ollama" else "reasoning_content"
        there.always = Fault("page", status=200, message=json.dumps(whole_of(api, "", **{name: "hm"}), indent=1))
        assert ask(server_at(there, api), request()).done_reason == "thought"
        there.always = Fault("page", status=200, message="{\n" + " " * 5_000_000)
        assert ask(server_at(there, api), request()).done_reason == "cut"


STREAMS = {
    "no space": "data:{0}\n\ndata:{1}\n\ndata:{2}\n\ndata:[DONE]\n\n",
    "CRLF": "data: {0}\r\n\r\ndata: {1}\r\n\r\ndata: {2}\r\n\r\ndata: [DONE]\r\n\r\n",
    "comments and names": ": ping\n\nevent: message\nid: 1\ndata: {0}\n\n:\n\nretry: 5\ndata: {1}\n\ndata: {2}\n\n",
    "no empty lines": "data: {0}\ndata: {1}\n: ping\ndata: {2}\ndata: [DONE]\n",
    "bare objects": "{0}\n{1}\n{2}\n",
    "byte order mark": "\ufeffdata: {0}\n\ndata: {1}\n\ndata: {2}\n\n",
}


@pytest.mark.parametrize("key", ["delta", "message"])
@pytest.mark.parametrize("form", STREAMS)
def test_events_are_read_in_every_form_that_servers_send(form, key):
    texts = [
        {"content": "It "},
        {"content": [{"type": "text", "text": "rains."}, {"type": "thinking", "thinking": []}]},
    ]
    chunks = [{"choices": [{key: one}]} for one in texts] + [{"choices": [{key: {}, "finish_reason": "stop"}]}]
    page = STREAMS[form].format(*map(json.dumps, chunks))
    with serve(always=Fault("page", status=200, message=page)) as there:
        reply = ask(server_at(there, "openai"), request())
    assert (reply.text, reply.done_reason, reply.problem) == ("It rains.", "stop", "")


def test_a_message_that_repeats_what_the_deltas_said_is_not_taken_twice():
    chunks = [{"choices": [{"delta": {"content": "It rains."}}]}, whole_of("openai", "It rains.")]
    page = "".join(f"data: {json.dumps(one)}\n\n" for one in chunks)
    with serve(always=Fault("page", status=200, message=page)) as there:
        assert ask(server_at(there, "openai"), request()).text == "It rains."


@pytest.mark.parametrize("error", [{"object": "error", "message": "no memory", "code": 5}, {"detail": "no memory"}])
def test_an_error_that_is_no_error_field_is_one_too(error):
    with serve(always=Fault("page", status=200, message=f"event: error\ndata: {json.dumps(error)}\n\n")) as there:
        reply = ask(server_at(there, "openai"), request())
    assert (reply.text, reply.done_reason, reply.problem) == ("", "error", "no memory")


def test_a_bare_line_in_a_stream_of_events_is_the_error_that_it_says():
    page = WHOLE["openai"].split("\n")[0] + '\n\n{"error": {"message": "out of memory"}}\n\n'
    with serve(always=Fault("page", status=200, message=page)) as there:
        reply = ask(server_at(there, "openai"), request())
    assert (reply.text, reply.done_reason, reply.problem) == ("It rains.", "error", "out of memory")


@pytest.mark.parametrize("kind", ["ended_close", "ended_reset", "ended_stall"])
def test_after_the_reason_to_stop_only_the_count_can_be_lost(kind):
    with serve(always=Fault(kind, delay_s=3)) as there:
        reply = ask(server_at(there, "openai", SOON), request())
    assert (reply.text, reply.done_reason, reply.attempts) == (whole_text(), "stop", 1)
    assert (reply.problem, reply.n_tokens_teacher) == ("", None)


def test_a_header_that_is_none_leaves_no_traceback(capfd, caplog):
    with serve(always=Fault("status", status=400, message="no", headers={"X\x00 y": "1", " z": "2"})) as there:
        assert ask(server_at(there), request()).problem == "400 no"
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_a_list_of_models_that_is_late_refuses_nothing():
    with serve(models_delay_s=3) as there:
        assert server_at(there, "openai", replace(SOON, preflight_s=0.05)).preflight().model == MODEL
        gone = server_at(there, "openai")
    with pytest.raises(ServerError, match="does not answer"):
        gone.preflight()


WRONG_FACTS = {
    "/api/version": ["[]", "5", DEEP, "<html>"],
    "/api/tags": ["[1]", '"x"', '{"models": 5}', '{"models": {"a": 1}}', "<html>", DEEP, "{}"],
}


@pytest.mark.parametrize("path", WRONG_FACTS)
def test_a_server_whose_facts_are_none_is_refused(path):
    for page in WRONG_FACTS[path]:
        with serve(pages={path: page}) as there, pytest.raises(ServerError) as caught:
            server_at(there).preflight()
        assert "ollama pull" not in caught.value.hint, "the model may well be there"


@pytest.mark.parametrize(
    ("path", "pages"),
    [
        ("/api/show", ['{"capabilities": 5}', '{"capabilities": [1, null]}', '{"capabilities": "x"}', "[1]", DEEP,
                       '{"model_info": [1]}', '{"model_info": {"a.context_length": "long"}}']),
        ("/api/ps", ["[1]", '{"models": [1]}', '{"models": 5}', DEEP,
                     '{"models": [{"name": "tiny:latest", "size": "big", "size_vram": [1]}]}']),
    ],
)  # fmt: skip
def test_facts_that_a_run_can_do_without_may_be_anything(path, pages):
    for page in pages:
        with serve(pages={path: page}) as there:
            server = server_at(there)
            assert server.preflight().digest == DIGEST
            assert not server.warm_up().on_gpu


def test_a_model_on_the_gpu_is_told_from_one_beside_it():
    for size_vram, on_gpu in ((1000, True), (501, True), (500, False)):  # of 1000 bytes
        with serve(size_vram=size_vram) as there:
            assert server_at(there).warm_up().on_gpu is on_gpu


def test_a_model_that_only_embeds_is_refused():
    with serve(capabilities=("embedding",)) as there, pytest.raises(ServerError, match="it is for embedding"):
        server_at(there).preflight()


def test_the_context_holds_the_prompt_and_the_reply_or_the_run_is_refused():
    assert context_for("simple recipes", 150) == 2048, "Ollama's memory is not taken for nothing"
    assert context_for("simple recipes " * 2000, 8000) > 3 * 2000 + 8000, "two or three tokens each time"
    assert context_for("水" * 2000, 150) > 2000 + 150, "a token a letter"
    with serve() as there:  # its model holds 4,096
        for context in (2048, 4096):
            server_of("ollama", MODEL, environment=ServerEnvironment(ollama_url=there.url), context=context).preflight()
        with pytest.raises(ServerError, match="holds 4096 tokens, and a prompt with its reply may take 4097") as caught:
            server_of("ollama", MODEL, environment=ServerEnvironment(ollama_url=there.url), context=4097).preflight()
    assert "longer context" in caught.value.hint


def test_a_server_that_is_busy_when_the_model_is_loaded_is_asked_again_and_a_long_pause_is_said(api, caplog):
    caplog.set_level("INFO", "actlab")
    prompt = {"ollama": "", "openai": "Hello"}[api]
    many = Fault("status", status=429, message="too many", headers={"Retry-After": "7"})
    slept: list[float] = []
    with serve(faults={prompt: [many, busy()]}) as there:
        server_at(there, api).warm_up(calls=OpenCalls(slept.append))
    assert slept[0] == 7.0
    assert slept[1] <= 1.0
    assert [record.getMessage() for record in caplog.records] == ["the server is not ready: it is asked again in 7 s"]
    with serve(faults={prompt: [many] * 4}) as there, pytest.raises(ServerError, match="429 too many"):
        server_at(there, api).warm_up(calls=OpenCalls(slept.append))
    assert len(slept) == 5


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault("page", status=404, message="<html><b>nginx</b></html>"), "404 Not Found"),
        (Fault("page", status=404, message=""), "404 Not Found"),
        (Fault("page", status=400, message="no  such\nthing"), "400 no such thing"),
        (Fault("page", status=302, headers={"Location": "https://x.example/v1"}),
         "302 Found: it points to https://x.example/v1"),
        (Fault("status", status=400, message="\x1b[31mred\x00\x07"), r"400 \u001b[31mred\u0000\u0007"),
        (Fault("page", status=400, message='{"error":' * 3000 + "1" + "}" * 3000), "400 "),
    ],
)  # fmt: skip
def test_a_refusal_says_its_status_and_its_words_and_harms_no_terminal(api, fault, problem):
    with serve(always=fault) as there:
        said = ask(server_at(there, api), request()).problem
    assert said.startswith(problem) if problem == "400 " else said == problem
    assert said.isprintable()


def test_what_is_wrong_with_a_server_is_not_blamed_on_the_model():
    with serve(pages={"/api/tags": (500, '{"error": "disk"}')}) as there:
        with pytest.raises(ServerError, match="lists no models: 500 disk") as caught:
            server_at(there).preflight()
        assert "ollama pull" not in caught.value.hint
        there.pages = {"/api/version": "[]"}
        with pytest.raises(ServerError, match="is no Ollama: /api/version answers with no version"):
            server_at(there).preflight()
        there.always = Fault("status", status=401, message="who are you?")
        with pytest.raises(ServerError, match="401 who are you") as caught:
            server_at(there, "openai").warm_up()
        assert "OPENAI_API_KEY" in caught.value.hint
        there.always = None
        whole = server_of("openai", MODEL, environment=ServerEnvironment(), base_url=f"{there.url}/v1/chat/completions")
        assert whole.warm_up().on_gpu is None
    with pytest.raises(ServerError, match="does not answer") as caught:
        server_at(there).preflight()
    assert "--base-url" in caught.value.hint
    with pytest.raises(ConfigError, match="port 0"):
        ollama_url("localhost:0")


LOGIN = "<html> <body>Log in</body></html>"


def test_an_address_that_answers_with_a_page_is_not_this_api():
    with serve(pages={"/api/version": LOGIN, "/v1/models": LOGIN, "/v1/chat/completions": LOGIN}) as there:
        with pytest.raises(ServerError, match="is not this API: /api/version begins '<html> <body>Log") as first:
            server_at(there).preflight()
        there.pages["/api/generate"] = there.pages.pop("/api/version")
        with pytest.raises(ServerError, match="is not this API: /api/generate begins '<html>") as second:
            server_at(there).warm_up()
        with pytest.raises(ServerError, match="is not this API: /chat/completions begins '<html>") as third:
            server_at(there, "openai").warm_up()
    assert all("check --base-url" in one.value.hint for one in (first, second, third))


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "OPENAI_API_KEY"), (500, "server's log"), (502, "server's log"), (404, "name of the model")],
)
def test_only_what_a_server_says_of_the_request_is_said_to_be_refused(status, hint, monkeypatch):
    monkeypatch.setattr("actlab.servers.questions.wait_before", lambda *asked, **more: None)
    with serve(always=Fault("status", status=status, message="no")) as there:
        with pytest.raises(
            ServerError, match=f"refuses .*: {status} no" if status == 404 else f"answers {status} no"
        ) as e:
            server_at(there, "openai").warm_up()
    assert hint in e.value.hint
    assert "name of the model" not in e.value.hint or status == 404


@pytest.mark.parametrize(("status", "hint"), [(401, "name:password@"), (502, "proxy")])
def test_what_a_proxy_answers_in_ollamas_place_is_said_to_be_a_proxys(status, hint, monkeypatch):
    monkeypatch.setattr("actlab.servers.questions.wait_before", lambda *asked, **more: None)
    with serve(pages=dict.fromkeys(("/api/version", "/api/generate"), (status, LOGIN))) as there:
        for asked in (server_at(there).preflight, server_at(there).warm_up):
            with pytest.raises(ServerError, match=f"answers {status} ") as caught:
                asked()
            assert hint in caught.value.hint


WANTS_LATER_NAME = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


def test_a_server_that_wants_max_completion_tokens_gets_them_and_the_keys_stay_as_they_were():
    with serve(refuses={"max_tokens": WANTS_LATER_NAME}) as there:
        server = server_at(there, "openai")
        before = server.key(request())
        server.warm_up()
        limited = server.limited(SOON)
        assert ask(limited, request(max_tokens=99)).text == whole_text()
        assert limited.key(request()) == before == server_at(there, "openai").key(request())
        sent = [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in there.bodies]
    assert sent == [(1, None), (None, 1), (None, 99)]
    with serve() as there:
        server_at(there, "openai").warm_up()
        assert "max_completion_tokens" not in there.bodies[0]


def test_a_model_that_refuses_what_actlab_sends_is_not_said_to_be_misspelt():
    only_one = (
        "Unsupported value: 'temperature' does not support 0.8 with this model. Only the default (1) is supported."
    )
    with serve(refuses={"temperature": only_one}) as there:
        with pytest.raises(ServerError, match="refuses 'tiny:latest': 400 Unsupported value") as temperature:
            server_at(there, "openai").warm_up(0.7)
        assert there.bodies[0]["temperature"] == 0.7
        there.refuses = {"seed": "Unrecognized request argument supplied: seed"}
        with pytest.raises(ServerError, match="argument supplied: seed") as seed:
            server_at(there, "openai").warm_up()
    assert "refuses temperature" in temperature.value.hint
    assert "--temperature" in temperature.value.hint
    assert "max_tokens, temperature, seed, and this model refuses seed" in seed.value.hint
    assert "name of the model" not in temperature.value.hint + seed.value.hint


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve() as there:
        assert ask(server_at(there), request()).text == whole_text()


def test_a_password_in_netrc_does_not_stand_in_for_the_key(monkeypatch, tmp_path):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("machine 127.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serve() as there:
        there.url = there.url.replace("127.0.0.1", "127.1")  # this machine, but not by a name that is known for it
        assert ask(server_at(there, api_key="sk-secret"), request()).text == whole_text()
    assert there.keys == ["Bearer sk-secret"]


def test_what_a_journal_was_given_outlives_a_kill(tmp_path):
    path = tmp_path / "j.jsonl"
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from actlab.servers.calls import Reply, Timings\n"
        "from actlab.servers.journal import Journal\n"
        "with Journal(Path(sys.argv[1])) as journal:\n"
        "    journal.append('key', Reply(k=5, text='It rains.', done_reason='stop', timings=Timings(total_s=1.0)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert Journal(path).get(5, "key").text == "It rains."


def test_a_journal_that_is_damaged_or_no_file_is_said(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append("key", Reply(k=5, text="It rains.", done_reason="stop", timings=Timings(total_s=1.0)))
    good = path.read_text()
    fields = json.loads(good)
    wrong = [{"text": 5}, {"k": [0]}, {"key": ["x"]}, {"timings": {"total_s": "long"}}, {"done_reason": None}]
    for line in [*(json.dumps(fields | one) for one in wrong), DEEP, "[1]"]:
        path.write_text(f"{good}{line}\n")
        with pytest.raises(DataError, match=r"j\.jsonl:2 is not a line"):
            Journal(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        Journal(tmp_path / "folder")


# The pace


class Simulated:
    """A server with some slots that each give 100 tokens a second: one request's rate, and the wait, by arithmetic."""

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots

    def window(self, limit: int) -> tuple[Window, float]:
        n = 2 * limit
        elapsed_s = n / min(limit, self.n_slots)
        queue_s = n * max(0.0, limit / self.n_slots - 1)
        return Window(n, 100 * n, queue_s, n + queue_s), elapsed_s


@pytest.mark.parametrize(("n_slots", "cap"), [(1, 8), (2, 8), (4, 8), (4, 3), (16, 8)])
def test_the_pace_grows_to_the_servers_slots_or_the_cap_and_stays(n_slots, cap):
    pace, seen = Pace(cap=cap), []
    for _ in range(30):
        pace = next_pace(pace, *Simulated(n_slots).window(pace.limit))
        seen.append(pace.limit)
    assert seen[-1] == seen[-15], "it settles"
    assert min(n_slots, cap) / 2 <= seen[-1] <= min(n_slots, cap)
    assert max(seen) <= min(n_slots + 1, cap), "one more than the slots is found out"


@given(st.integers(1, 64), st.lists(st.tuples(st.integers(0, 500), st.floats(0, 9), st.floats(0, 9), st.booleans())))
def test_the_pace_is_never_under_one_nor_over_the_cap_and_halves_when_turned_away(cap, seen):
    pace = Pace(cap=cap)
    for n_tokens, queue_s, total_s, throttled in seen:
        later = next_pace(pace, Window(2, n_tokens, queue_s, total_s, throttled), 1.0)
        assert 1 <= later.limit <= cap
        assert later.limit <= pace.limit + 1
        if throttled:
            assert later.limit == max(1, pace.limit // 2)
        pace = later


# The server of these tests is right: the official clients say so


def test_the_official_ollama_client_understands_the_server():
    with serve() as there:
        client = ollama.Client(host=there.url)
        assert [one.model for one in client.list().models] == [MODEL]
        assert client.show("tiny").capabilities == ["completion"]
        assert client.show("tiny").modelinfo["llama.context_length"] == 4096
        options = {"seed": 7, "num_predict": 150}
        told = client.generate("tiny", "a fish", options=options)
        assert (told.response, told.done, told.done_reason) == (whole_text(), True, "stop")
        parts = list(client.generate("tiny", "a fish", options=options, stream=True))
        assert "".join(part.response for part in parts) == whole_text()
        assert parts[-1].eval_count == len(parts) - 1
        chat = client.chat("tiny", [{"role": "user", "content": "a fish"}], options=options)
        assert chat.message.content == whole_text()
        parts = list(client.chat("tiny", [{"role": "user", "content": "a fish"}], options=options, stream=True))
        assert "".join(part.message.content for part in parts) == whole_text()
        assert [one.model for one in client.ps().models] == [MODEL]
        assert client.pull("tiny").status == "success"
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            list(client.pull("nope", stream=True))
        for call in (client.show, lambda name: client.generate(name, "x")):
            with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
                call("nope")
            assert caught.value.status_code == 404
        there.always = busy()
        with pytest.raises(ollama.ResponseError, match="server busy") as caught:
            client.generate("tiny", "a fish")
        assert caught.value.status_code == 503
        there.always = Fault("error_line", after=2, message="it broke")
        with pytest.raises(ollama.ResponseError, match="it broke"):
            list(client.generate("tiny", "a fish", stream=True))


def test_the_official_openai_client_understands_the_server():
    with serve() as there, openai.OpenAI(base_url=f"{there.url}/v1", api_key="x", max_retries=0) as client:
        assert [one.id for one in client.models.list()] == [MODEL]
        asked: dict[str, Any] = {"model": MODEL, "seed": 7, "max_tokens": 150}
        messages: Any = [{"role": "user", "content": "a fish"}]
        told = client.chat.completions.create(messages=messages, **asked)
        assert (told.choices[0].message.content, told.choices[0].finish_reason) == (whole_text(), "stop")
        stream = client.chat.completions.create(
            messages=messages, stream=True, stream_options={"include_usage": True}, **asked
        )
        parts = list(stream)
        assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == whole_text()
        assert parts[-1].usage.completion_tokens == told.usage.completion_tokens
        assert client.completions.create(prompt="a fish", **asked).choices[0].text == whole_text()
        parts = list(client.completions.create(prompt="a fish", stream=True, **asked))
        assert "".join(part.choices[0].text for part in parts) == whole_text()
        for status, kind in (
            (404, openai.NotFoundError),
            (429, openai.RateLimitError),
            (500, openai.InternalServerError),
        ):
            there.always = Fault("status", status=status)
            with pytest.raises(kind, match="it failed"):
                client.chat.completions.create(messages=messages, **asked)


def test_the_server_bounds_its_own_concurrency_in_both_regimes():
    def many(there: Conformance, n: int) -> list[Reply]:
        replies: list[Reply] = []
        threads = [
            threading.Thread(target=lambda k=k: replies.append(one_attempt(there, request(k, f"p{k}"))))
            for k in range(n)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return replies

    with serve(n_parallel=2, max_queue=3, load_delay_s=0.1, token_delay_s=0.001) as there:
        cold = many(there, 8)
        assert sum(reply.problem.startswith("503") for reply in cold) == 5, "a model that loads takes max_queue"
        warm = many(there, 8)
        assert all(reply.text for reply in warm), "a loaded one lets any number wait"
        assert there.most_at_work == 2
        assert max(reply.timings.queue_s for reply in warm) > 0.004


def one_attempt(there: Conformance, asked: Request) -> Any:
    server = server_at(there)
    made = attempts.attempt(server.dialect, server.endpoint, asked, calls=OpenCalls(), clock=time.monotonic)
    return made.reply


@pytest.mark.slow
def test_transformers_serve_is_understood_and_gives_texts(tmp_path):
    """It lives in an environment of its own, made here: its web server brings packages that nothing else needs."""
    from tests.tiny import make_model

    model = make_model(tmp_path / "tiny-llama")
    config = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**config, "do_sample": True}))
    template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    (model / "chat_template.jinja").write_text(template)
    venv = tmp_path / "venv"
    constraints = Path(__file__).parent.parent / "constraints.txt"
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    install = [venv / "bin/pip", "install", "-q", "-c", constraints, "transformers[serving]", "torch"]
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, env=alone)
    subprocess.run(install, check=True, env=alone)
    check_transformers_serve(venv / "bin/transformers", model, tmp_path, alone)


def check_transformers_serve(program: Path, model: Path, folder: Path, environment: dict[str, str]) -> None:
    port = free_port()
    command = [program, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(part) for part in command], env=environment, stdout=log, stderr=log)
    try:
        server = server_of("openai", str(model), environment=ServerEnvironment(), base_url=f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 120
        while True:
            try:
                server.preflight()
                break
            except ServerError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        server.warm_up()
        taken = Taken()
        with Journal(folder / "j.jsonl") as journal:
            asked = (request(k, f"p{k}", seed=k, max_tokens=24) for k in range(6))
            summary = run_requests(server, asked, limit=3, journal=journal, on_reply=taken)
        assert (summary.ended, len(taken.replies)) == (EXHAUSTED, 6)
        assert {reply.done_reason for reply in taken.replies} <= {"stop", "length"}, (folder / "log").read_text()
        assert all(0 < reply.n_tokens_teacher <= 24 for reply in taken.replies)
        refused = server_of(
            "openai", "no/such-model", environment=ServerEnvironment(), base_url=f"http://127.0.0.1:{port}"
        )
        assert refused.generate(request()).failed
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

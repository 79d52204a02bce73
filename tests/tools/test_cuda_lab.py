"""tools/cuda_lab.py without a GPU: its driver, its predictions, and the hand-over protocols on a CPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import cuda_lab
import cuda_lab_report
from cuda_lab_report import Case, Cases, Prediction

LOG = Path(__file__).parents[2] / "docs" / "kernels.md"
PREDICTIONS = cuda_lab_report.read_predictions(cuda_lab.SOURCES / "predictions.json")


def cases(*each: Case) -> Cases:
    return {(case.experiment, case.name): case for case in each}


def script(folder: Path, name: str, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The protocols for threads of a CPU, under ThreadSanitizer."""
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler: c++")
    program = tmp_path_factory.mktemp("twin") / "twin"
    source = Path(__file__).with_name("exchange_twin.cpp")
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=thread", "-pthread", "-I", str(cuda_lab.SOURCES)]
    built = subprocess.run(
        ["c++", *flags, str(source), "-o", str(program)], capture_output=True, text=True, check=False
    )
    if "tsan" in built.stderr and built.returncode:
        pytest.skip("needs a compiler with ThreadSanitizer's library")
    assert built.returncode == 0, built.stderr
    return program


def told(twin: Path, *words: str) -> tuple[str, str]:
    """What the twin prints of a protocol, and what ThreadSanitizer does."""
    done = subprocess.run([str(twin), *words], capture_output=True, text=True, check=False, timeout=120)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run under this kernel's address randomisation")
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("protocol", ["local", "counter", "flags", "words", "sentinels", "fenced sentinels"])
def test_a_protocol_hands_every_value_over_and_races_nowhere(twin: Path, protocol: str) -> None:
    assert told(twin, protocol) == ("right", "")


@pytest.mark.parametrize("protocol", ["counter", "flags", "words", "fenced sentinels"])
def test_a_protocol_bears_stores_that_arrive_late_and_out_of_order(twin: Path, protocol: str) -> None:
    assert told(twin, protocol, "late") == ("right", "")


def test_sentinels_without_a_fence_rest_on_distance_only(twin: Path) -> None:
    assert told(twin, "sentinels", "late")[0] == "wrong"


def test_a_ring_too_short_is_noticed(twin: Path) -> None:
    assert told(twin, "ring of two")[0] == "wrong"


def test_a_barrier_that_orders_nothing_is_noticed(twin: Path) -> None:
    assert "data race" in told(twin, "unordered")[1]


def test_a_program_compiles(tmp_path: Path) -> None:
    try:
        nvcc = cuda_lab.find_nvcc(None)
    except cuda_lab.LabError:
        pytest.skip("needs nvcc")
    log = cuda_lab.compile_one(nvcc, "90a", "launches", tmp_path)
    assert cuda_lab.spilled(log) == 0
    assert "Used" in log


def test_every_experiment_has_a_program_and_every_program_an_experiment() -> None:
    assert sorted(cuda_lab.EXPERIMENTS) == sorted(each.stem for each in cuda_lab.SOURCES.glob("*.cu"))


def test_lines_of_programs_become_cases_with_a_value_a_round() -> None:
    found: Cases = {}
    lines = [
        '{"device": "a GPU", "version": 90}',
        '{"case": "a", "value": 2.5, "unit": "ns", "verified": true}',
        '{"case": "b", "skipped": "needs 9.0"}',
    ]
    assert cuda_lab.record_lines(found, "gemv", "\n".join(lines))["device"] == "a GPU"
    cuda_lab.record_lines(found, "gemv", '{"case": "a", "value": 4.5, "unit": "ns", "verified": false}')
    assert found["gemv", "a"] == Case("gemv", "a", "ns", [2.5, 4.5], verified=False)
    assert found["gemv", "b"].skipped == "needs 9.0"


@pytest.mark.parametrize(
    "line", ["Segmentation fault", '{"value": 1}', '["case"]', '{"case": "a", "value": "x"}']
)
def test_a_line_that_is_no_result_is_an_error(line: str) -> None:
    with pytest.raises(cuda_lab.LabError, match="gemv printed"):
        cuda_lab.record_lines({}, "gemv", line)


def test_a_hand_over_is_what_a_round_costs_beyond_one_without() -> None:
    bare = Case("handover", "no exchange, width 768", "ns", [100.0, 200.0, 180.0])
    words = Case("handover", "words with epoch, width 768", "ns", [900.0])
    assert cuda_lab_report.meaning(words, cases(bare, words)) == "720 ns the hand-over"
    assert cuda_lab_report.meaning(bare, cases(bare, words)) == ""


def test_a_gemv_is_measured_by_the_fastest_reading_which_is_no_copy() -> None:
    gemv = Case("gemv", "bf16 FMA", "GB/s", [3000.0])
    reads = [Case("read_bandwidth", f"{way}, 1024 MiB", "GB/s", [rate]) for way, rate in
             [("plain", 3500.0), ("ring", 4000.0), ("cudaMemcpy, read and written", 6000.0)]]  # fmt: skip
    assert cuda_lab_report.meaning(gemv, cases(gemv, *reads)) == "75% of reading"


def test_a_table_shows_spread_skips_and_wrong_results() -> None:
    found = cases(
        Case("launches", "launch, synchronise", "ns", [7000.0, 9000.0, 8000.0]),
        Case("launches", "graph", skipped="needs 9.0"),
        Case("launches", "chain", "ns", [1.0], verified=False),
    )
    text = cuda_lab_report.table(found, PREDICTIONS)
    assert "| launches | launch, synchronise | 8,000 ns | 7,000 to 9,000 |  | 6,000 to 13,000 |" in text
    assert "| launches | graph | skipped: needs 9.0 |" in text
    assert "| launches | chain | 1 ns | 1 | **WRONG RESULT: the number means nothing** | nothing |" in text


def test_a_case_belongs_to_the_first_prediction_that_covers_it() -> None:
    special = Prediction("gemv", "head, *", 1, 2, "GB/s", "small")
    general = Prediction("gemv", "*", 3, 4, "GB/s", "large")
    found = cases(Case("gemv", "head, 1", "GB/s", [1.5]), Case("gemv", "up", "GB/s", [3.5]),
                  Case("gemv", "down", "GB/s", [5.0]))  # fmt: skip
    lines = cuda_lab_report.prediction_table([special, general], found).splitlines()
    assert lines[2].endswith("| 1.5 (1 of 1 as predicted) |")
    assert lines[3].endswith("| 3.5 to 5 (1 of 2 as predicted) |")


def test_the_predictions_stand_in_the_laboratory_log() -> None:
    log = LOG.read_text("utf-8")
    for line in cuda_lab_report.prediction_table(PREDICTIONS, {}).splitlines()[2:]:
        assert line.removesuffix("|  |") in log


def test_predictions_are_ranges_of_experiments_that_are_there() -> None:
    assert {each.experiment for each in PREDICTIONS} == set(cuda_lab.EXPERIMENTS)
    assert all(0 < each.low < each.high and each.why for each in PREDICTIONS)


def test_what_json_holds_is_read_back(tmp_path: Path) -> None:
    found = cases(Case("gemv", "a", "ns", [1.0, 2.0]), Case("gemv", "b", skipped="why"))
    path = tmp_path / "lab.json"
    path.write_text(json.dumps(cuda_lab.as_json({"device": "x"}, 2, found)))
    assert cuda_lab.from_json(path) == ({"device": "x"}, found)


@pytest.mark.parametrize("text", ["{}", "[]", "not JSON"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(cuda_lab.LabError, match=r"lab\.json"):
        cuda_lab.from_json(tmp_path / "lab.json")


@pytest.mark.parametrize(
    "line", ["no-such", "--rounds 0", "--json no-such/lab.json", "--read a --predictions"]
)
def test_an_impossible_command_line_is_refused(line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cuda_lab.parse(line.split())
    assert ended.value.code == 2


def test_without_a_compiler_or_a_gpu_the_exit_code_is_4(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cuda_lab", "--nvcc", "no-such-compiler"])
    assert cuda_lab.main() == 4
    assert "install the CUDA toolkit" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["cuda_lab", "--nvcc", str(script(tmp_path, "nvcc", "exit 0"))])
    assert cuda_lab.main() == 4
    assert "there is no GPU here" in capsys.readouterr().err


@pytest.mark.parametrize(("capability", "arch"), [("9.0", "90a"), ("8.6", "86"), ("12.0", "120")])
def test_the_architecture_is_the_gpu_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capability: str, arch: str
) -> None:
    script(tmp_path, "nvidia-smi", f"echo {capability}")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert cuda_lab.architecture() == arch


@pytest.mark.parametrize("answer", ["echo 7.5", "echo", "echo '[N/A]'", "echo No devices were found; exit 6"])
def test_a_gpu_that_does_not_do_ends_with_4(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    script(tmp_path, "nvidia-smi", answer)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(cuda_lab.LabError) as error:
        cuda_lab.architecture()
    assert error.value.code == 4


def fake_nvcc(folder: Path, *program: str) -> Path:
    """A compiler whose programs run these lines."""
    text = "\\n".join(["#!/bin/sh", *program]).replace("'", "'\\''")
    return script(
        folder, "nvcc", 'for last; do :; done', f"printf '{text}\\n' > $last", "chmod +x $last",
        "echo '0 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads' >&2",
    )  # fmt: skip


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cuda_lab", *words])
    return cuda_lab.main()


@pytest.mark.parametrize(("verified", "code"), [("true", 0), ("false", 1)])
def test_a_run_goes_from_sources_to_a_table_and_a_file(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verified: str,
    code: int,
) -> None:
    line = f'{{"case": "graph node, 1 block", "value": 1300, "unit": "ns", "verified": {verified}}}'
    nvcc = fake_nvcc(tmp_path, 'echo \'{"device": "fake"}\'', f"echo '{line}'")
    target = tmp_path / "lab.json"
    words = ["launches", "--nvcc", str(nvcc), "--arch", "90a", "--rounds", "3", "--json", str(target)]
    assert run_main(monkeypatch, *words) == code
    held = json.loads(target.read_text())
    assert held["device"] == {"device": "fake"}
    assert held["cases"][0]["values"] == [1300.0] * 3
    shown = capsys.readouterr().out
    assert "1,300 (1 of 1 as predicted)" in shown
    assert run_main(monkeypatch, "--read", str(target)) == code
    assert capsys.readouterr().out == shown


def test_a_program_that_fails_ends_the_run_with_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nvcc = fake_nvcc(tmp_path, "echo an illegal address >&2", "exit 1")
    assert run_main(monkeypatch, "launches", "--nvcc", str(nvcc), "--arch", "80") == 1
    assert "an illegal address" in capsys.readouterr().err


def test_a_program_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda_lab, "TIMEOUT_S", 0.2)
    with pytest.raises(cuda_lab.LabError, match="no end after"):
        cuda_lab.run([str(script(tmp_path, "forever", "exec sleep 60"))], "it")


def test_spills_are_told_and_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "gemv", "--nvcc", str(fake_nvcc(tmp_path)), "--compile", "80", "90a") == 1
    assert capsys.readouterr().out.splitlines() == [f"sm_{a}: gemv: 12 bytes spilled" for a in ("80", "90a")]

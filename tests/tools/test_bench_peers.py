"""tools/bench_peers.py: its arithmetic, its tables, its files. No engine is needed, nor run."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module", autouse=True)
def tools_on_path() -> Iterator[None]:
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


def group(**figures: dict[str, list[float | None]]) -> Any:
    from peers.figures import Group

    named = {name.replace("_", " "): values for name, values in figures.items()}
    return Group("S", "a model", 2, 128, 32, 200, figures=named)


def tiny(family: str) -> Any:
    from peers.shapes import Shape

    return Shape("T", "tiny", family, 1, 2, 1 if family == "llama" else 2, 8, 32, 16, 11)


def test_decode_speed_leaves_the_prompt_out() -> None:
    from peers.figures import decode_speed

    assert decode_speed(first_s=1.0, all_s=3.0, tokens=101) == 50.0
    assert decode_speed(first_s=1.0, all_s=3.0, tokens=101, rows=8) == 400.0


@pytest.mark.parametrize(("first", "whole", "tokens"), [(2.0, 1.0, 8), (1.0, 1.0, 8), (1.0, 2.0, 1)])
def test_decode_speed_is_none_where_noise_or_one_token_leaves_nothing(
    first: float, whole: float, tokens: int
) -> None:
    from peers.figures import decode_speed

    assert decode_speed(first, whole, tokens) is None


def test_an_advantage_is_the_median_of_the_ratios_within_rounds_not_the_ratio_of_medians() -> None:
    from peers.figures import FIGURES, Spread, advantage

    ours, theirs = [10.0, 40.0, 90.0], [10.0, 10.0, 10.0]
    assert advantage(ours, theirs, FIGURES["decode"]) == Spread(4.0, 1.0, 9.0)
    slow_machine_in_round_2 = advantage([100.0, 10.0, 100.0], [50.0, 5.0, 50.0], FIGURES["decode"])
    assert slow_machine_in_round_2 == Spread(2.0, 2.0, 2.0)


def test_an_advantage_of_a_cost_is_how_many_times_less_it_is() -> None:
    from peers.figures import FIGURES, Spread, advantage

    assert advantage([2.0], [8.0], FIGURES["ttft_ms"]) == Spread(4.0, 4.0, 4.0)


def test_rounds_without_a_figure_count_in_no_median_and_no_ratio() -> None:
    from peers.figures import FIGURES, Spread, advantage, spread

    assert spread([None, 3.0, 1.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([None]) is None
    assert advantage([None, 6.0, 8.0], [1.0, 3.0, None], FIGURES["batch"]) == Spread(2.0, 2.0, 2.0)


def test_agreement_ends_at_the_first_token_that_differs() -> None:
    from peers.figures import agreeing

    assert agreeing([1, 2, 3], [1, 2, 3]) == 3
    assert agreeing([1, 9, 3], [1, 2, 3]) == 1
    assert agreeing([], [1]) == 0


def test_a_report_has_a_row_an_engine_and_our_ratios_bold_at_equal_bits() -> None:
    from peers.report import report

    record = group(
        torch_int8={"decode": [10.0, 10.0]},
        pygpt_f32={"decode": [20.0, 30.0]},
        pygpt_q8={"decode": [40.0, 40.0]},
    )
    text = report(record)
    assert "| torch int8 | 10.0 | - |" in text
    assert "| pygpt f32 | 25.0 (20.0-30.0) | - |" in text
    assert "| torch int8 | 2.50 (2.00-3.00) | **4.00** |" in text


def test_a_report_shows_the_share_of_memory_bandwidth_where_it_was_probed() -> None:
    from peers.report import report

    record = group(pygpt_f32={"decode": [10.0]})
    record.weight_bytes["pygpt f32"] = 10**9
    record.bandwidth_gb_s.append(20.0)
    assert "| pygpt f32 | 10.0 | 50 | - |" in report(record)


def test_a_report_says_which_exact_engine_differs_and_who_was_skipped() -> None:
    from peers.report import report

    record = group(pygpt_f32={"decode": [1.0]}, pygpt_f16={"decode": [1.0]})
    record.agreement.update({"pygpt f32": 3, "pygpt f16": 3})
    record.skipped["llama.cpp F32"] = "needs llama_cpp"
    text = report(record)
    assert "| pygpt f32 | 1.0 | 3, DIFFERS |" in text
    assert "| pygpt f16 | 1.0 | 3 |" in text
    assert "- llama.cpp F32: needs llama_cpp" in text


def test_a_report_warns_where_others_took_processor_time() -> None:
    from peers.report import report

    quiet_run = group(pygpt_f32={"decode": [1.0]})
    quiet_run.others["pygpt f32"] = [0.02, None]
    assert "Other processes and the host took at most 2 % of the processors (pygpt f32)." in report(quiet_run)
    busy_run = group(pygpt_f32={"decode": [1.0]})
    busy_run.others["pygpt f32"] = [0.02, 0.4]
    assert "distrust these ratios" in report(busy_run)


def test_what_others_took_is_busy_time_less_the_process_own() -> None:
    from peers.quiet import Sample, others

    before = Sample(at=0.0, busy=100.0, own=10.0)
    assert others(before, Sample(at=2.0, busy=103.0, own=12.0), cpus=2) == 0.25
    assert others(before, Sample(at=2.0, busy=102.0, own=12.5), cpus=2) == 0.0
    assert others(None, before, cpus=2) is None


def test_what_json_holds_shows_the_same_report() -> None:
    import bench_peers

    record = group(pygpt_f32={"decode": [1.0, 2.0]})
    held = {"schema": bench_peers.SCHEMA, "quick": False, "groups": [dataclasses.asdict(record)]}
    from peers.report import report

    assert bench_peers.show(held) == report(record)
    with pytest.raises(SystemExit, match="schema"):
        bench_peers.show({"schema": "other"})


def test_engines_are_chosen_by_name_and_precision() -> None:
    from peers.catalogue import CONTENDERS, chosen

    assert chosen([]) == list(CONTENDERS)
    assert [each.name for each in chosen(["llama.cpp:Q8_0", "pygpt f16"])] == ["llama.cpp Q8_0", "pygpt f16"]
    assert {each.engine for each in chosen(["torch"])} == {"torch"}
    with pytest.raises(ValueError, match="no engine 'lama'"):
        chosen(["lama"])


def test_an_engine_that_is_not_installed_names_the_command_that_brings_it() -> None:
    from peers.catalogue import Contender

    absent = Contender("x", "f32", "x", 32, ("gpt2",), ("a_module_that_nobody_has",), "a-package")
    assert absent.obstacle("gpt2") == "needs a_module_that_nobody_has: pip install a-package"
    assert Contender("x", "f32", "x", 32, ("gpt2",), (), "").obstacle("llama") is not None


def test_nothing_installed_is_an_error_that_says_so() -> None:
    import bench_peers
    from peers.catalogue import Contender

    absent = Contender("x", "f32", "x", 32, ("gpt2",), ("a_module_that_nobody_has",), "a-package")
    with pytest.raises(SystemExit, match="none of the engines is installed"):
        bench_peers.check_installed([absent])


@pytest.mark.parametrize(
    "line",
    ["--rounds 0", "--threads 0", "--models Z", "--engines lama", "--cells x", "--json no-such/place.json"],
)
def test_an_impossible_command_line_is_refused(line: str) -> None:
    import bench_peers

    with pytest.raises(SystemExit, match="2"):
        bench_peers.parse(line.split())


def test_the_shapes_have_the_parameters_of_their_models() -> None:
    from peers.shapes import SHAPES

    sizes = {name: round(shape.parameters / 1e6, 1) for name, shape in SHAPES.items()}
    assert sizes == {"S": 10.8, "M": 124.4, "G": 126.8, "X": 1100.0}


def test_weights_and_prompts_are_the_same_every_time() -> None:
    from peers import shapes

    shape = tiny("gpt2")
    first, second = (dict(shapes.tensors(shape)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert shapes.prompt(shape, 16) == shapes.prompt(shape, 16)
    assert shapes.prompt(shape, 16, row=0) != shapes.prompt(shape, 16, row=1)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_hugging_face_directory_gives_its_weights_back(family: str, tmp_path: Path) -> None:
    from peers import shapes

    pytest.importorskip("safetensors")
    shape = tiny(family)
    read = dict(shapes.read(shapes.write(shape, tmp_path / "weights")))
    written = dict(shapes.tensors(shape))
    assert read.keys() == written.keys()
    assert all(np.array_equal(read[name], written[name]) for name in written)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transformer.h.3.attn.c_attn.bias", "blk.3.attn_qkv.bias"),
        ("transformer.h.11.mlp.c_proj.weight", "blk.11.ffn_down.weight"),
        ("transformer.wpe.weight", "position_embd.weight"),
        ("model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight"),
        ("lm_head.weight", "output.weight"),
    ],
)
def test_tensors_have_the_names_that_llama_cpp_knows(name: str, expected: str) -> None:
    from peers.gguf_file import renamed

    assert renamed(name) == expected


def test_rotated_pairs_are_put_side_by_side_head_by_head() -> None:
    from peers.gguf_file import converted

    shape = tiny("llama")  # 2 heads of 4 rows
    rows = np.arange(8, dtype=np.float32)[:, None].repeat(8, axis=1)
    got = converted(shape, "model.layers.0.self_attn.q_proj.weight", rows)
    assert got[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_gguf_file_holds_the_shape_and_the_weights(family: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="needs gguf: pip install gguf")
    pytest.importorskip("safetensors")
    from peers import gguf_file, shapes

    shape = tiny(family)
    target = tmp_path / "tiny.gguf"
    gguf_file.write(shape, shapes.write(shape, tmp_path / "weights"), target)
    reader = gguf.GGUFReader(target)
    held = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    for name, values in shapes.tensors(shape):
        expected = gguf_file.converted(shape, name, values)
        np.testing.assert_array_equal(held.pop(gguf_file.renamed(name)), expected)
    assert not held
    assert reader.get_field(f"{family}.block_count").contents() == shape.layers
    assert reader.get_field(f"{family}.context_length").contents() == shape.context


def test_a_worker_that_dies_or_cannot_answer_is_an_error_with_its_words(tmp_path: Path) -> None:
    from peers.client import Worker, WorkerError

    with (
        Worker("serve", ["no such contender", "S", "x", "1"], tmp_path) as worker,
        pytest.raises(WorkerError, match="no such contender"),
    ):
        worker.hear()


def test_a_worker_that_was_killed_is_an_error_and_closes_twice(tmp_path: Path) -> None:
    from peers.client import Worker, WorkerError

    worker = Worker("serve", ["no such contender", "S", "x", "1"], tmp_path)
    worker.process.kill()
    worker.process.wait()
    with pytest.raises(WorkerError, match="ended"):
        worker.hear()
    with pytest.raises(WorkerError, match="ended"):
        worker.ask({"peak": True})
    worker.close()
    worker.close()


def test_the_bandwidth_of_memory_is_none_without_a_probe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from peers import bandwidth

    monkeypatch.setitem(sys.modules, "pygpt.bench", None)
    assert bandwidth.here(1) is None
    monkeypatch.setitem(sys.modules, "pygpt.bench", ModuleType("pygpt.bench"))
    assert bandwidth.here(1) is None
    monkeypatch.setattr(bandwidth, "_CODE", "print(None)")
    assert bandwidth.read_gb_s(1, tmp_path) is None
    monkeypatch.setattr(bandwidth, "_CODE", "print(12.5)")
    assert bandwidth.read_gb_s(1, tmp_path) == 12.5


def test_the_picture_is_a_png_of_every_group(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from peers.picture import draw

    one = group(pygpt_f32={"decode": [90.0, 100.0]}, torch_int8={"decode": [10.0, 12.0]})
    draw([one, group(pygpt_f32={"decode": [5.0]}), group()], tmp_path / "decode.png")
    assert (tmp_path / "decode.png").read_bytes().startswith(b"\x89PNG")

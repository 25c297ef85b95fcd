"""Networks as ONNX files: what is written, and that prediction with them gives torch's masks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from test_python_examples import examples

from dvos.api import load_predictor
from dvos.cli.main import main
from dvos.errors import CheckpointError, DvosError, RunError, UsageError
from dvos.media.video_write import VideoWriter
from dvos.networks import onnx_graph
from dvos.networks.dvos import efficientnet
from dvos.networks.onnx_graph import load_onnx_network, read_onnx_info
from dvos.networks.weights import NetworkInfo, save_network
from dvos.registry import features_of, load_network, network_spec

EXTRA = {
    "normalisation": {"mean": [0.458, 0.463, 0.435], "std": [0.213, 0.186, 0.203]},
    "reference_interval": 2,
    "objects": {"width": 12.0},
    "calibration": {"temperature": 1.5, "bias": -0.25},
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "dvos": {
        "references": 1,
        "channels": [4, 4, 4, 4, 8],
        "widths": [4, 4, 4, 8],
        "fused": [False, False, False, False, True],
    },
    "paper": {
        "references": 2,
        "base": 2,
        "multipliers": [1],
        "latent": 4,
        "groups": 2,
        "hidden": 4,
        "blocks": 1,
    },
}


@pytest.fixture(scope="module", autouse=True)
def _shallow_encoder() -> Iterator[None]:
    """Few plain blocks a stage: tracing time goes with the number of layers."""
    with pytest.MonkeyPatch.context() as patch:
        stages = [(kernel, stride, 1) for kernel, stride, _ in efficientnet._STAGES]
        patch.setattr(efficientnet, "_STAGES", stages)
        widths, _ = efficientnet.ENCODERS["lite2"]
        patch.setattr(efficientnet, "ENCODERS", {"lite2": (widths, (1, 2, 2, 2, 2, 2, 1))})
        yield


@pytest.fixture(scope="module", params=["dvos", "paper"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint and what ``dvos convert`` made of it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    arguments = ARGUMENTS[request.param]
    network = network_spec(request.param).network(**arguments)
    checkpoint, graph = folder / "best.safetensors", folder / "best.onnx"
    save_network(checkpoint, network, name=request.param, arguments=arguments, extra=EXTRA)
    assert main(["convert", str(checkpoint), "--out", str(graph)]) == 0
    return checkpoint, graph


def _frames(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


def test_the_file_says_what_it_holds(files: tuple[Path, Path]) -> None:
    model = onnx.load(files[1])
    onnx.checker.check_model(model, full_check=True)
    description = read_onnx_info(files[1], {p.key: p.value for p in model.metadata_props})
    assert description.arguments == ARGUMENTS[description.name]
    assert description.references == ARGUMENTS[description.name]["references"]
    assert description.extra == EXTRA
    names = [value.name for value in model.graph.output]
    assert names == ["mask_logits", *(f"features_stride{x}" for x in description.strides)]
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        assert axes[0].dim_param == "batch"
        assert axes[2].dim_param.endswith("height")
        assert axes[3].dim_param.endswith("width")


def test_inputs_that_nothing_looks_at_are_left_out(files: tuple[Path, Path]) -> None:
    model = onnx.load(files[1])
    used = {name for node in model.graph.node for name in node.input}
    assert {value.name for value in model.graph.input} - used == set()
    if "dvos" in str(files[1].parent):
        assert len(model.graph.input) == 1 + 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch": 3},
        {"augment": "flips"},
        {"scale": 0.5, "augment": "scales", "reference_interval": 1},
    ],
    ids=str,
)
def test_probabilities_are_those_of_torch(files: tuple[Path, Path], options: Any) -> None:
    frames = _frames(6, (45, 101))
    of_torch, of_graph = (load_predictor(path, "cpu", **options) for path in files)
    assert of_graph.context == of_torch.context
    assert of_graph.calibration == of_torch.calibration
    pairs = list(zip(of_torch.segment(frames), of_graph.segment(frames), strict=True))
    assert len(pairs) == 6
    for one, other in pairs:
        assert other.probability.shape == (45, 101)
        np.testing.assert_allclose(other.probability, one.probability, rtol=0, atol=1e-4)
    assert any(one.mask.any() and not one.mask.all() for one, _ in pairs)


def test_tiles_join_to_masks_of_the_frame(files: tuple[Path, Path]) -> None:
    frames = _frames(2, (70, 150))
    for found in load_predictor(files[1], tile=64).segment(frames):
        assert found.mask.shape == (70, 150)
        assert np.isfinite(found.probability).all()


def test_one_step_of_the_graph_is_enough_for_a_stream(files: tuple[Path, Path]) -> None:
    """As an application without this package runs it: features go round, frame by frame."""
    import onnxruntime

    network = load_network(files[0])[0]
    session = onnxruntime.InferenceSession(files[1], providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    frames = torch.randn(5, 1, 3, 64, 96)
    kept: list[dict[str, np.ndarray]] = []
    with torch.no_grad():
        maps = [network.encode(frame) for frame in frames]
    for index, frame in enumerate(frames):
        feeds = {"frame": frame.numpy()}
        for value in session.get_inputs()[1:]:
            number, stride = value.name.removeprefix("reference").split("_stride")
            back = network.references + 1 - int(number)
            scale = [f"features_stride{stride}" == name for name in names[1:]].index(True)
            feeds[value.name] = (
                kept[index - back][f"features_stride{stride}"]
                if index >= back
                else maps[0][scale].contiguous().numpy()
            )
        found = dict(zip(names, session.run(names, feeds), strict=True))
        kept.append(found)
        window = [max(0, index - back) for back in range(network.references, -1, -1)]
        with torch.no_grad():
            expected = network(frames[window].transpose(0, 1)).mask_logits
        np.testing.assert_allclose(found["mask_logits"], expected.numpy(), rtol=0, atol=1e-4)


def test_the_example_of_the_page_gives_the_masks_of_predict(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with VideoWriter(tmp_path / "field.mp4", frame_rate=10, size=(46, 70)) as video:
        for frame in _frames(6, (46, 70)):
            video.write(frame)
    (tmp_path / "model.onnx").write_bytes(files[1].read_bytes())
    monkeypatch.chdir(tmp_path)
    (code,) = examples("how-to/export.md")
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})
    shares = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    predictor = load_predictor("model.onnx")
    expected = [frame.mask.mean() for frame in predictor.segment("field.mp4")]
    np.testing.assert_allclose(shares, expected, rtol=0, atol=1e-3)


def test_the_command_predicts_with_it(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dvos.media.image import write_image

    for index, frame in enumerate(_frames(3, (40, 52))):
        write_image(tmp_path / "clip" / f"f{index}.png", frame)
    command = ["predict", str(tmp_path / "clip"), "--checkpoint", str(files[1])]
    assert main([*command, "--out", str(tmp_path / "masks")]) == 0
    assert "3 masks" in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "b"), "--device", "cuda"]) == 2
    error = capsys.readouterr().err
    assert "auto or cpu for best.onnx" in error
    assert len(error.strip().splitlines()) == 1


def _refusal(path: Path) -> DvosError:
    with pytest.raises(DvosError) as caught:
        load_predictor(path, "cpu")
    assert len(caught.value.faults) == 1
    return caught.value


def _foreign(path: Path) -> Path:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [result])), path)
    return path


def test_other_files_are_refused_in_a_line(tmp_path: Path) -> None:
    foreign = _refusal(_foreign(tmp_path / "other.onnx"))
    assert isinstance(foreign, CheckpointError)
    assert "does not say which network" in str(foreign)
    (tmp_path / "damaged.onnx").write_bytes(b"no graph at all")
    assert "damaged, or not an ONNX file" in str(_refusal(tmp_path / "damaged.onnx"))
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert isinstance(_refusal(tmp_path / "empty.onnx"), CheckpointError)
    assert "no such file" in str(_refusal(tmp_path / "none.onnx"))


def test_a_graph_without_its_weights_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    model = onnx.load(files[1])
    del model.graph.initializer[3:]
    onnx.save(model, tmp_path / "cut.onnx")
    assert "damaged" in str(_refusal(tmp_path / "cut.onnx"))


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_a_missing_package_is_told_with_its_extra(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = _refusal(files[1])
    assert isinstance(error, UsageError)
    assert f"needs the package {module}" in str(error)
    assert "pip install 'dvos[onnx]'" in str(error)
    with pytest.raises(UsageError, match=r"ONNX export.*dvos\[onnx\]"):
        onnx_graph.export_network(
            tmp_path / "a.onnx", load_network(files[0])[0], NetworkInfo("dvos", {})
        )


def test_precision_and_features_are_torchs_alone(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="precision: is 'bfloat16'; expected auto or float32"):
        load_predictor(files[1], precision="bfloat16")
    with pytest.raises(CheckpointError, match="offers no features"):
        features_of(files[1])


def test_what_differs_from_torch_is_not_written(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network, info = load_network(files[0])
    monkeypatch.setattr(onnx_graph, "_traced", lambda *_: onnx.load(files[1]))
    out = tmp_path / "model.onnx"
    assert onnx_graph.export_network(out, network, info) < 1e-4
    out.unlink()
    with torch.no_grad():
        next(network.parameters()).mul_(1.5)
    with pytest.raises(RunError, match="differs from the network by"):
        onnx_graph.export_network(out, network, info)
    assert not out.exists()


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="kind 'other' cannot be exported"):
        onnx_graph.export_network(
            tmp_path / "a.onnx", torch.nn.Conv2d(1, 1, 1), NetworkInfo("other", {})
        )


def test_the_decoder_takes_no_more_than_it_needs(files: tuple[Path, Path]) -> None:
    network, description = load_onnx_network(files[1])
    maps = network.encode(torch.zeros(2, 3, 33, 20))
    stride = description.strides[-1]
    assert maps[-1].shape[-2:] == (-(-33 // stride), -(-20 // stride))
    window = [[x] * (network.references + 1) for x in maps]
    assert network.decode(window, (33, 20)).mask_logits.shape == (2, 1, 33, 20)


def test_settings_that_do_not_fit(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = str(files[0]), str(tmp_path / "out.safetensors")
    assert main(["convert", own, "--out", out]) == 2
    error = capsys.readouterr().err
    assert "nothing to convert" in error
    assert ".onnx" in error
    assert main(["convert", own, "--out", out, "--set", "reference_interval=3"]) == 0
    assert load_network(Path(out))[1].extra == {**EXTRA, "reference_interval": 3}
    assert main(["convert", own, "--out", out, "--set", "sees_query=true"]) == 2
    assert "no published checkpoint" in capsys.readouterr().err
    assert main(["convert", own, "--out", str(tmp_path / "out.tar")]) == 2
    assert ".safetensors or .onnx" in capsys.readouterr().err
    assert main(["convert", own, "--out", own]) == 2
    assert "the checkpoint itself" in capsys.readouterr().err
    assert main(["convert", str(files[1]), "--out", out]) == 1
    assert "not a safetensors file" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["notes", "weights of a run"])
def test_a_conversion_writes_over_none_but_its_own(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / "out.safetensors"
    words = ["convert", str(files[0]), "--out", str(out), "--set", "reference_interval=3"]
    if kind == "notes":
        out.write_text("mine")
    else:
        out.write_bytes(files[0].read_bytes())
        (tmp_path / "run.json").touch()
    before = out.read_bytes()
    assert main(words) == 1
    assert "is there, and dvos convert is not known to have made it" in capsys.readouterr().err
    assert out.read_bytes() == before
    (tmp_path / "run.json").unlink(missing_ok=True)
    if kind == "notes":
        out.unlink()
    assert [main(words), main(words)] == [0, 0]


def test_a_graph_of_another_program_is_not_written_over(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    words = ["convert", str(files[0]), "--out", str(out)]
    model = onnx.load(files[1])
    del model.metadata_props[:]  # what ours say of themselves
    for mine in (b"mine", model.SerializeToString()):
        out.write_bytes(mine)
        assert main(words) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"error: {out}: is there, and dvos convert is not known to have")
        assert out.read_bytes() == mine
    out.write_bytes(files[1].read_bytes())
    stamp = out.stat().st_mtime_ns
    assert main(words) == 0
    assert out.stat().st_mtime_ns > stamp

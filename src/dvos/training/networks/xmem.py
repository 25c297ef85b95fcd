"""XMem as it is trained: a pass over a whole clip, and the weights it starts from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dvos.config.network import NetworkSettings
from dvos.errors import CheckpointError
from dvos.networks.weights import read_checkpoint, read_state
from dvos.networks.xmem.layers import BasicBlock, Bottleneck
from dvos.networks.xmem.memory import read_all
from dvos.networks.xmem.network import XMem

_log = logging.getLogger(__name__)

#: Modules of the published ResNets by those of the two encoders.
_KEY_NAMES = {"conv1": "conv1", "bn1": "bn1", "layer1": "res2"}
_VALUE_NAMES = {"conv1": "conv1", "bn1": "bn1", "layer1": "layer1"}
_SHARED_NAMES = {"layer2": "layer2", "layer3": "layer3"}
#: Of the published ResNets, but not of XMem: it ends at stride 16.
_UNUSED = ("layer4.", "fc.")


class ClipXMem(XMem):
    """XMem that runs over clips of known length, so that gradients flow through time."""

    def forward(
        self,
        frames: Tensor,
        masks: Tensor,
        counts: Tensor,
        memory: Tensor,
        deepens: Sequence[bool],
    ) -> tuple[Tensor, Tensor]:
        """Follow the objects of the first frame through a clip.

        Args:
            frames: (B, T, 3, H, W), normalised.
            masks: (B, N, H, W), of the objects in the first frame.
            counts: (B,) integer: the first so many of the N objects are real.
            memory: (B, T, R) integer: frames remembered for frame t; of the
                first R frames all earlier ones are.
            deepens: For each frame, whether the sensory state learns from its
                values; the last is not looked at.

        Returns:
            Logits and probabilities of all frames but the first,
            (B, T - 1, N + 1, H, W), background first.
        """
        length, objects, references = frames.shape[1], masks.shape[1], memory.shape[2]
        real = torch.arange(objects, device=masks.device) < counts[:, None]
        keys = self.encode_key(frames.flatten(0, 1))
        assert keys.shrinkage is not None
        assert keys.selection is not None
        shape = frames.shape[:2]
        key, shrinkage, selection = (
            x.reshape(*shape, *x.shape[1:]) for x in (keys.key, keys.shrinkage, keys.selection)
        )
        features = [x.reshape(*shape, *x.shape[1:]) for x in keys.features]
        hidden = key.new_zeros((len(frames), objects, self.hidden_dim, *key.shape[-2:]))
        values: list[Tensor] = []
        logits: list[Tensor] = []
        probabilities: list[Tensor] = []
        for moment in range(length):
            now = (features[0][:, moment], features[1][:, moment], features[2][:, moment])
            last = moment == length - 1
            if moment:
                chosen = memory[:, moment, : min(moment, references)]
                readout = read_all(
                    key[:, moment],
                    selection[:, moment],
                    _remembered(key, chosen, 1),
                    _remembered(shrinkage, chosen, 1),
                    _remembered(torch.stack(values, 1), chosen, 2),
                )
                segmented = self.segment(
                    now, readout, hidden, update_hidden=not last, selector=real
                )
                hidden, masks = segmented.hidden, segmented.probability[:, 1:]
                logits.append(segmented.logits)
                probabilities.append(segmented.probability)
            if not last:
                value, hidden = self.encode_value(
                    frames[:, moment], now[0], hidden, masks, update_hidden=deepens[moment]
                )
                values.append(value)
        return torch.stack(logits, 1), torch.stack(probabilities, 1)


def _remembered(x: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """Of each clip (T, ...) its frames ``chosen`` (B, R), with T as dimension ``dim`` of (...)."""
    return torch.stack([clip[which].movedim(0, dim) for clip, which in zip(x, chosen, strict=True)])


def arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    """Arguments of :class:`ClipXMem`; of a reconstruction it knows nothing.

    Args:
        settings: Of the network.
        reconstructs: Has no effect.
    """
    del reconstructs
    return settings.xmem.model_dump(exclude={"preset"})


def initialise(network: ClipXMem, settings: NetworkSettings) -> ClipXMem:
    """Put in the weights that it starts from; torch's global generator says what is random.

    Raises:
        CheckpointError: If weights to start from cannot be read or do not fit.
    """
    if settings.weights is not None:
        start_from(settings.weights, network)
        return network
    files = settings.backbone_weights
    scratch = []
    for name, encoder, path in (
        ("resnet50", network.key_encoder, files.resnet50),
        ("resnet18", network.value_encoder, files.resnet18),
    ):
        if path is not None:
            load_backbone(encoder, path, name=name)
            continue
        quieten_residuals(encoder)
        scratch.append(name)
    if scratch:
        _log.warning(
            "XMem starts from scratch (%s): good results take very long; give network.weights, "
            "or network.backbone_weights.%s",
            "random encoders" if len(scratch) == 2 else f"a random {scratch[0]}",
            " and ".join(scratch),
        )
    return network


def start_from(path: Path, network: XMem) -> None:
    """Fill a network from an earlier run's weights or a published checkpoint.

    One that saw no other objects' masks may start one that does: it then
    begins by not looking at them.

    Raises:
        CheckpointError: If the file cannot be read or does not fit.
    """
    info, state = read_checkpoint(path)
    stem = state.get("value_encoder.conv1.weight")
    if stem is None:
        raise CheckpointError.at(
            path, f"holds the network {info.name}", "weights of xmem", "set network.weights"
        )
    if stem.shape[1] == 4 and not network.single_object:
        wide = torch.cat((stem, torch.zeros_like(stem[:, :1])), 1)
        state = {**state, "value_encoder.conv1.weight": wide}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError.at(
            path,
            f"holds the network xmem of other widths: {info.arguments}",
            "the network of these settings",
            "set network.xmem to the same values",
        ) from error


def load_backbone(encoder: nn.Module, path: Path, *, name: str) -> None:
    """Fill an encoder from a state dict of a ResNet under its published (torchvision) names.

    Channels of the first convolution beyond the colours, which are masks,
    begin as orthogonal rows, as in the published training.

    Args:
        encoder: The key or the value encoder; what no ResNet has keeps its values.
        path: safetensors, or what ``torch.save`` wrote of the state dict.
        name: ``resnet50`` or ``resnet18``, for messages.

    Raises:
        CheckpointError: If the file cannot be read or does not fit.
    """
    names = _SHARED_NAMES | (_KEY_NAMES if name == "resnet50" else _VALUE_NAMES)
    own = encoder.state_dict()
    filled: dict[str, Tensor] = {}
    excess = []
    for key, tensor in read_state(path).items():
        module, _, rest = key.partition(".")
        if key.startswith(_UNUSED):
            continue
        mine = f"{names.get(module, module)}.{rest}"
        if mine in own:
            filled[mine] = _widened(tensor, own[mine])
        else:
            excess.append(key)
    prefixes = tuple(f"{module}." for module in names.values())
    missing = [
        key
        for key in own
        if key.startswith(prefixes) and key not in filled and not key.endswith("batches_tracked")
    ]
    wrong = missing + excess + [k for k, x in filled.items() if x.shape != own[k].shape]
    if wrong:
        raise CheckpointError.at(
            path,
            f"is no {name}: {len(wrong)} weights do not fit, first {wrong[0]}",
            f"the state dict of {name} as torchvision publishes it",
            f"give network.backbone_weights.{name} another file",
        )
    encoder.load_state_dict(own | filled)


def _widened(tensor: Tensor, own: Tensor) -> Tensor:
    if tensor.ndim != 4 or tensor.shape[1] != 3 or own.shape[1] <= 3:
        return tensor
    wide = torch.empty_like(own)
    wide[:, :3] = tensor
    wide[:, 3:] = nn.init.orthogonal_(torch.empty_like(own[:, 3:]))
    return wide


def quieten_residuals(encoder: nn.Module) -> None:
    """Let every residual block begin as its shortcut.

    XMem's norms never take the statistics of its batches, so with random
    weights each block would double the variance of its input. Starting with the
    last scale of each at zero (Goyal et al. 2017, arXiv 1706.02677, section
    5.1) keeps the maps in range.
    """
    for module in encoder.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)

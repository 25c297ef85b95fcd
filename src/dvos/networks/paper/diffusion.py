"""Noise on the skip connections: the forward half of a diffusion process.

Ho et al., Denoising Diffusion Probabilistic Models (arXiv 2006.11239),
equation 4: at step t a map x becomes sqrt(a_t) x + sqrt(1 - a_t) e, where e is
standard normal and a_t the product of 1 - beta up to t.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ForwardDiffusion", "diffusion_schedule"]

STEPS = 1000
FIRST_BETA, LAST_BETA = 1e-4, 0.02


def diffusion_schedule(
    steps: int = STEPS, first_beta: float = FIRST_BETA, last_beta: float = LAST_BETA
) -> tuple[Tensor, Tensor]:
    """Shares of signal and of noise at each step of a linear schedule.

    Args:
        steps: Number of steps.
        first_beta: Variance added by the first step.
        last_beta: Variance added by the last.

    Returns:
        sqrt(a_t) and sqrt(1 - a_t), each float32 (steps,).
    """
    betas = torch.linspace(first_beta, last_beta, steps, dtype=torch.float32)
    signal = torch.cumprod(1 - betas, 0)
    return signal.sqrt(), (1 - signal).sqrt()


class ForwardDiffusion(nn.Module):
    """Noise of a strength drawn for each clip, t = floor(steps * Beta(a, b)).

    Draws come from torch's own generators, as those of dropout do.

    Args:
        a: First parameter of the Beta distribution, above 0.
        b: Second parameter, above 0.
    """

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b
        signal, noise = diffusion_schedule()
        # Not part of the state: published checkpoints do not hold them.
        self.register_buffer("signal", signal, persistent=False)
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) with noise."""
        # Drawn on the CPU: not every device can draw from a Beta distribution.
        share = torch.distributions.Beta(self.a, self.b).sample((len(x),))
        steps = (share * STEPS).long().clamp(max=STEPS - 1).to(x.device)
        signal, noise = (
            table[steps].view(-1, 1, 1, 1).to(x.dtype)
            for table in (self.get_buffer("signal"), self.get_buffer("noise"))
        )
        return signal * x + noise * torch.randn_like(x)

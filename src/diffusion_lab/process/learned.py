"""A schedule that training finds: the one under which the variational bound has the least variance."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lab.process.schedules import Schedule, variance_preserving


class Learned(Schedule):
    """A monotone, piecewise linear log-SNR, learned as in variational diffusion models (Kingma et al. 2021,
    arXiv:2107.00630, sec. 5 and appendix I): between fixed ends the schedule does not change the bound, only the
    variance of its estimate, so that is what it is trained to lower. Variance preserving.

    Uniform times then spend on each interval of log-SNR the share softmax(logits); it starts as `LogSnrLinear`.

    Args:
        max_log_snr, min_log_snr: natural logarithms, at time 0 and time 1.
        intervals: of equal width in log-SNR.
    """

    def __init__(self, max_log_snr: float = 10.0, min_log_snr: float = -8.0, intervals: int = 20):
        super().__init__()
        self.start, self.width = max_log_snr, (max_log_snr - min_log_snr) / intervals
        self.logits = nn.Parameter(torch.zeros(intervals))

    @torch.no_grad()  # the schedule learns from `variance` alone
    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        shares = self.logits.to(time.dtype).softmax(0)
        ends = shares.cumsum(0)
        interval = torch.searchsorted(ends, time.contiguous()).clamp(max=len(shares) - 1)
        within = 1 + (time - ends[interval]) / shares[interval]
        return variance_preserving(self.start - self.width * (interval + within))

    def loss(self, log_snr: Tensor, noise_errors: Callable[[], Tensor]) -> Tensor:
        return self.variance(log_snr, noise_errors())

    def variance(self, log_snr: Tensor, errors: Tensor) -> Tensor:
        """What to minimise: a scalar whose gradient is that of the bound's estimate's second moment, in units of its mean.

        The estimate from one time is error / density: its mean does not depend on the density, its second moment, the
        integral of error ** 2 / density over the log-SNR, does.

        Args:
            log_snr: (B,) at which images were noised, drawn with this schedule's own density.
            errors: (B,) mean squared errors of the noise estimate there; no gradient flows into them.
        """
        interval = ((self.start - log_snr) / self.width).long().clamp(0, len(self.logits) - 1)
        density = F.log_softmax(self.logits, 0)[interval]
        estimate = errors.detach() / density.detach().exp()
        relative = estimate / estimate.mean().clamp(min=1e-12)
        return (relative**2 * (density.detach() - density).exp()).mean()

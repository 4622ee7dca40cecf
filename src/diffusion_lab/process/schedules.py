"""Noise schedules in closed form: time in [0, 1] to the rates of `noisy = signal_rate * image + noise_rate * noise`.

Every schedule maps time (B,) to (signal_rate, noise_rate), each (B,). Time 0 is the clean end, time 1
the noisy one, and at both both rates are above 0. Most preserve variance, signal_rate ** 2 + noise_rate ** 2 = 1; `Flow`
and `Edm` do not, and `SingleLevel` is one noise level, which may be none. See `discrete.py` for DDPM's steps and
`learned.py` for a schedule that training finds.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusion_lab.errors import UserError
from diffusion_lab.sizes import Size, sides


class Schedule(nn.Module):
    """The base of all: `schedule(time)` gives (signal_rate, noise_rate), each (B,), as precise as time (B,)."""

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def loss(self, log_snr: Tensor, noise_errors: Callable[[], Tensor]) -> Tensor | float:
        """What a schedule that learns adds to the training loss, a scalar; others nothing.

        Args:
            log_snr: (B,) at which the images of a batch were noised.
            noise_errors: gives their mean squared errors (B,) of the noise estimate.
        """
        return 0.0


def log_snr(signal_rate: Tensor, noise_rate: Tensor) -> Tensor:
    """log(signal_rate ** 2 / noise_rate ** 2), the log-signal-to-noise ratio."""
    return 2 * (signal_rate.log() - noise_rate.log())


def variance_preserving(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """The rates of a log-SNR whose squares sum to 1 (Kingma et al. 2021, arXiv:2107.00630, eq. 4)."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


@torch.no_grad()
def fall_of(schedule: Schedule, time: Tensor, span: float = 1e-3) -> Tensor:
    """-d log-SNR / d time at times (B,), over `span` to both sides; so that schedules of discrete steps have one too."""
    precise = time.double() if time.device.type != "mps" else time
    before, after = (precise - span).clamp(min=0), (precise + span).clamp(max=1)
    return ((log_snr(*schedule(before)) - log_snr(*schedule(after))) / (after - before)).to(time.dtype)


def time_of(schedule: Schedule, wanted: Tensor) -> Tensor:
    """The times (N,), float64, at which `schedule` has the log-SNRs `wanted` (N,); the nearer end where it has not.

    By bisection: the log-SNR of every schedule falls with time, but few have an inverse in closed form.
    """
    low, high = torch.zeros_like(wanted, dtype=torch.float64), torch.ones_like(wanted, dtype=torch.float64)
    for _ in range(40):
        middle = (low + high) / 2
        too_clean = log_snr(*schedule(middle)) > wanted
        low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
    return torch.where(high == 1, high, torch.where(low == 0, low, (low + high) / 2))


class Cosine(Schedule):
    """The rates are cosine and sine of an angle linear in time (Salimans and Ho 2022, arXiv:2202.00512, sec. 4).

    Args:
        max_signal_rate: signal rate at time 0, in (0, 1].
        min_signal_rate: signal rate at time 1, in [0, 1); above 0, so that the image can be told from the noise.
    """

    def __init__(self, max_signal_rate: float = 0.95, min_signal_rate: float = 0.02):
        super().__init__()
        self.start = math.acos(max_signal_rate)
        self.end = math.acos(min_signal_rate)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        angle = self.start + (self.end - self.start) * time
        return angle.cos(), angle.sin()


class Linear(Schedule):
    """DDPM's linear beta (Ho et al. 2020, arXiv:2006.11239) in continuous time (Song et al. 2021, arXiv:2011.13456, eq. 32).

    With beta(s) from `beta_start` to `beta_end`, alpha_bar(s) = exp(-n (beta_start s + (beta_end - beta_start) s^2 / 2)).
    Time runs over that part of s where the signal rate sqrt(alpha_bar) falls from `max_signal_rate` to
    `min_signal_rate`, so it has the ends of the cosine schedule and no clamp in between.

    Args:
        beta_start, beta_end: variance of one of the `steps` discrete steps, at the ends.
        steps: number n of discrete steps that the continuous process stands for.
        max_signal_rate, min_signal_rate: signal rates at time 0 and time 1.
    """

    def __init__(
        self,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        steps: int = 1000,
        max_signal_rate: float = 0.95,
        min_signal_rate: float = 0.02,
    ):
        super().__init__()
        self.constant = steps * beta_start
        self.slope = steps * (beta_end - beta_start)
        self.start = self._inverse(max_signal_rate)
        self.end = self._inverse(min_signal_rate)

    def _inverse(self, signal_rate: float) -> float:
        """The s at which sqrt(alpha_bar(s)) is `signal_rate`: the positive root of a quadratic."""
        drop = -2 * math.log(signal_rate)
        return (math.sqrt(self.constant**2 + 2 * self.slope * drop) - self.constant) / self.slope

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        s = self.start + (self.end - self.start) * time
        log_alpha_bar = -(self.constant * s + self.slope * s**2 / 2)
        return (log_alpha_bar / 2).exp(), (-torch.expm1(log_alpha_bar)).sqrt()


class LinearClipped(Schedule):
    """The reference system's linear schedule: 1,000 discrete steps, alpha_bar clamped to [0.02, 0.95].

    The clamp acts on the power alpha_bar, not on the rate: the signal rate never falls below sqrt(0.02) = 0.14,
    so pure noise is never reached; 38 % of all times sit on that clamp and 7 % on the other. Kept to reproduce the
    reference.
    """

    def __init__(
        self,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        steps: int = 1000,
        min_alpha_bar: float = 0.02,
        max_alpha_bar: float = 0.95,
    ):
        super().__init__()
        alpha_bar = (1 - torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)).cumprod(0)
        alpha_bar = alpha_bar.clamp(min_alpha_bar, max_alpha_bar)
        self.register_buffer("alpha_bar", alpha_bar, persistent=False)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alpha_bar[((len(self.alpha_bar) - 1) * time).long()]
        return alpha_bar.sqrt().to(time.dtype), (1 - alpha_bar).sqrt().to(time.dtype)


class Sigmoid(Schedule):
    """alpha_bar falls along a logistic curve (Jabri et al. 2022, arXiv:2212.11972): more time at middle noise.

    alpha_bar(s) = (sigmoid(b / tau) - sigmoid((a + (b - a) s) / tau)) / (sigmoid(b / tau) - sigmoid(a / tau)). Time runs
    over the part of s in [0, 1] between the two signal rates, where the paper clips alpha_bar.

    Args:
        start, end, tau: a, b and tau; the curve's ends and its width.
        max_signal_rate, min_signal_rate: signal rates at time 0 and time 1.
    """

    def __init__(
        self,
        start: float = -3.0,
        end: float = 3.0,
        tau: float = 1.0,
        max_signal_rate: float = 0.9999,
        min_signal_rate: float = 0.01,
    ):
        super().__init__()
        self.lowest, self.highest = _sigmoid(start / tau), _sigmoid(end / tau)
        self.start, self.end = self._place(max_signal_rate), self._place(min_signal_rate)

    def _place(self, signal_rate: float) -> float:
        """The argument of the sigmoid at which sqrt(alpha_bar) is `signal_rate`."""
        value = self.highest - signal_rate**2 * (self.highest - self.lowest)
        return math.log(value / (1 - value))

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        value = torch.sigmoid(self.start + (self.end - self.start) * time)
        span = self.highest - self.lowest
        return ((self.highest - value) / span).sqrt(), ((value - self.lowest) / span).sqrt()


class LogSnrLinear(Schedule):
    """The log-SNR falls linearly, so noise grows exponentially (Kingma et al. 2021, arXiv:2107.00630, appendix).

    Args:
        max_log_snr, min_log_snr: natural logarithms, at time 0 and time 1.
    """

    def __init__(self, max_log_snr: float = 10.0, min_log_snr: float = -8.0):
        super().__init__()
        self.start, self.end = max_log_snr, min_log_snr

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        return variance_preserving(self.start + (self.end - self.start) * time)


class Flow(Schedule):
    """Straight lines from image to noise: signal rate 1 - s, noise rate s (Lipman et al. 2023, arXiv:2210.02747, eq. 20;
    Liu et al. 2022, arXiv:2209.03003). They sum to 1, so variance is not preserved.

    Args:
        min_noise_rate, max_noise_rate: s at time 0 and time 1; not 0 and 1, where one estimate does not give the other.
        shift: s' = shift s / (1 + (shift - 1) s), above 1 for large images (Esser et al. 2024, arXiv:2403.03206, eq. 23).
    """

    def __init__(self, min_noise_rate: float = 1e-3, max_noise_rate: float = 0.999, shift: float = 1.0):
        super().__init__()
        self.start, self.end, self.shift = min_noise_rate, max_noise_rate, shift

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        s = self.start + (self.end - self.start) * time
        noise_rate = self.shift * s / (1 + (self.shift - 1) * s)
        return 1 - noise_rate, noise_rate


class Edm(Schedule):
    """Variance exploding: the signal rate stays 1, the noise rate is sigma (Karras et al. 2022, arXiv:2206.00364, eq. 5).

    sigma(t) = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho, so evenly spaced times are EDM's steps.

    Args:
        sigma_min, sigma_max: in units of the normalised space; the paper's suit pixels from -1 to 1.
        rho: how much time is spent on small sigma.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0):
        super().__init__()
        self.start, self.end, self.rho = sigma_min ** (1 / rho), sigma_max ** (1 / rho), rho

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        sigma = (self.start + (self.end - self.start) * time) ** self.rho
        return torch.ones_like(sigma), sigma


class SingleLevel(Schedule):
    """The same rates at all times: for a denoiser of one step or, without noise, for a classifier of clean images.

    Args:
        signal_rate: 0 for pure noise, of which a denoiser can only learn the mean image.
        noise_rate: 0 for clean images, above 0 for what has to estimate the noise.
    """

    def __init__(self, signal_rate: float = 1.0, noise_rate: float = 0.5):
        super().__init__()
        self.signal_rate, self.noise_rate = signal_rate, noise_rate

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(time, self.signal_rate), torch.full_like(time, self.noise_rate)


class Shifted(Schedule):
    """Another schedule moved towards noise for larger images: its log-SNR plus 2 log(base_size / image_size)
    (Hoogeboom et al. 2023, arXiv:2301.11093, sec. 3.1). Variance preserving.

    A large image holds many pixels of each thing in it, so the same noise hides less of it.

    Args:
        schedule: the schedule as it suits images of `base_size` pixels.
        image_size: side in pixels, or (height, width).
        base_size: side in pixels.

    Raises:
        UserError: the schedule is a learned one.
    """

    def __init__(self, schedule: Schedule, image_size: Size, base_size: int = 64):
        super().__init__()
        if any(True for _ in schedule.parameters()):
            raise UserError("schedule=shifted cannot move a schedule that is learned: it finds its place itself")
        self.schedule = schedule
        self.shift = 2 * math.log(base_size / math.sqrt(math.prod(sides(image_size))))

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        return variance_preserving(log_snr(*self.schedule(time)) + self.shift)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))

"""Exterior contextual-relation module.

Yin et al.: Duplex Contextual Relation Network for Polyp Segmentation, ISBI 2022,
https://arxiv.org/abs/2103.06725 (names as in https://github.com/PRIS-CV/DCRNet)

    L = conv1x1(x)  (B, N, HW),   X = relu BN conv3x3(x)  (B, D, HW)
    f = X softmax_HW(L)^T                     prototypes of what L marks, (B, D, N)
    bank: the last S prototypes of the training batches, without gradient
    A = softmax over the S N slots of psi(X)^T phi(bank)          (B, HW, S N)
    y = relu BN conv1x1([X; rho(A delta(bank)^T)])                phi, psi, delta: D -> K, rho back

phi, psi, delta and rho are each relu BN conv1x1. In training the batch's own prototypes enter the
bank first; at evaluation the bank is read only. Since the bank has no gradient, L learns from the
side outputs alone, which therefore need a loss of their own.

The published code departs from its paper. `compat="official"` repeats it, for its checkpoints;
the default corrects it. Sizes are relative norms of the change in the output, measured with 512
channels at the default initialisation, random 11x11 maps and batches of 8:

* The softmax runs over the images of the batch; here over the slots. 82 %.
* The context, laid out (HW, D, B), is read as (B, D, H, W), which mixes positions and images;
  here it stays in place. 90 %; with the softmax 89 %.
* Of a batch that does not fit before the end of the bank the rest is dropped; here the bank is a
  ring, and of a batch larger than the bank the last S stay. 60 % in training at the step that
  drops 4 of 8.
* A full bank whose pointer is 0 is empty after loading; here the buffer `count` is saved. 69 % at
  the first step of training after it.
* Evaluation enqueues its images too; here it only reads. 24 % between the same images before and
  after another batch.
* Two forwards before a backward are an error; here they are not, in either mode.

Rules for what neither settles:

* Fewer than two slots filled (a first batch of one image): phi and delta of the bank normalise
  with their running statistics, which stay as they are; the published code stops with an error.
* An empty bank at evaluation: each image attends to its own prototypes.
* A published checkpoint has no `count`; the slots that are not all zero are counted.
* A gradient reaches L through `side` alone; `prototype` stays attached to the graph for it.
* Several processes that train one network keep one bank: each enqueues the prototypes of all of
  them, in the order that one process has. Its projections then have the same statistics in each.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.blocks import checks
from attnsearch.blocks.errors import BlockError
from attnsearch.blocks.ranks import gathered

FLAGS = ("train", "test")


class ECRM(nn.Module):
    """Completes a map with what earlier training images showed, kept in a memory bank.

    Side outputs, in the attribute `side` after every forward in training mode (`{}` otherwise):
    `logits` (B, prototypes, H, W), the coarse map of the region; `prototype`
    (B, hidden, prototypes), the mean feature of the region, with its gradient.

    Args:
        channels: Channels of the input and output; 512 in the published network.
        bank_size: Images S whose prototypes are kept.
        hidden: Channels D of features and prototypes; `channels` if `None`.
        key: Channels K in which they are compared; `hidden // 2` if `None`.
        prototypes: Prototypes N per image, one per region.
        compat: `official` repeats the published code, faults included; `None` corrects it.
    """

    side_loss: ClassVar[str] = "ecrm"

    bank: Tensor
    bank_ptr: Tensor
    count: Tensor
    side: dict[str, Tensor]

    def __init__(
        self,
        channels: int,
        bank_size: int = 20,
        hidden: int | None = None,
        key: int | None = None,
        prototypes: int = 1,
        compat: str | None = None,
    ) -> None:
        super().__init__()
        checks.integer("ecrm", "channels", channels)
        self.bank_size = checks.integer("ecrm", "bank_size", bank_size)
        self.hidden = checks.integer("ecrm", "hidden", channels if hidden is None else hidden)
        self.key = checks.integer("ecrm", "key", max(1, self.hidden // 2) if key is None else key)
        self.prototypes = checks.integer("ecrm", "prototypes", prototypes)
        self.compat = compat
        if compat is not None:
            checks.one_of("ecrm", "compat", compat, ("official",))
            if prototypes != 1:
                raise BlockError(
                    f"ecrm: prototypes={prototypes} is not possible with compat='official', "
                    f"whose code fails for it; the nearest valid value is 1"
                )
        self.register_buffer("bank_ptr", torch.zeros(1, dtype=torch.long))
        self.register_buffer("bank", torch.zeros(bank_size, self.hidden, prototypes))
        self.register_buffer("count", torch.zeros(1, dtype=torch.long))
        self.L = nn.Conv2d(channels, prototypes, kernel_size=1)
        self.X = _unit2d(channels, self.hidden, 3)
        self.phi = _unit1d(self.hidden, self.key)
        self.psi = _unit1d(self.hidden, self.key)
        self.delta = _unit1d(self.hidden, self.key)
        self.rho = _unit1d(self.key, self.hidden)
        self.g = _unit2d(2 * self.hidden, channels, 1)
        self.side = {}
        self.register_load_state_dict_pre_hook(_count_slots)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the side outputs out of copies: they belong to one step's graph."""
        return {**self.__dict__, "side": {}}

    def forward(self, x: Tensor, flag: str = "train") -> Tensor:
        """Return the completed map (B, C, H, W) and set the side outputs.

        Args:
            x: The map (B, C, H, W).
            flag: With `compat="official"` the argument of the published forward: `train` enqueues
                and attends to the bank, in both modes; `test` attends to the batch's own
                prototypes. Otherwise `train` only.

        Raises:
            BlockError: A training batch of one image with a map of one position, or `flag`
                where there is none.
        """
        checks.one_of("ecrm", "flag", flag, FLAGS if self.compat else FLAGS[:1])
        if self.training:
            checks.enough_for_statistics("ecrm", x.shape[0], x.shape[2], x.shape[3], "the map")
        logits = self.L(x)
        features = self.X(x)
        flat = features.flatten(2)  # (B, D, HW)
        prototype = flat @ logits.flatten(2).softmax(-1).transpose(1, 2)  # (B, D, N)
        self.side = {"logits": logits, "prototype": prototype} if self.training else {}
        if self.compat:
            context = self._official_context(flat, prototype, flag)
        else:
            context = self._context(flat, prototype)
        context = context.view_as(features).contiguous(
            memory_format=checks.memory_format(features)
        )
        y: Tensor = self.g(torch.cat([features, context], dim=1))
        return y

    @torch.no_grad()
    def attention_map(self, x: Tensor) -> Tensor:
        """Return the region that L marks, (B, H, W), 1 in sum.

        The weights of the positions in the prototypes, softmax_HW(L), their mean over the
        prototypes.

        Args:
            x: The input (B, C, H, W).
        """
        B, _, H, W = x.shape
        logits: Tensor = self.L(x)
        return logits.float().flatten(2).softmax(-1).mean(1).view(B, H, W)

    def _context(self, flat: Tensor, prototype: Tensor) -> Tensor:
        """Return what the slots hold for every position, (B, D, HW)."""
        query = self.psi(flat)  # (B, K, HW)
        if self.training:
            self._enqueue(prototype)
            # A copy, since the next forward may overwrite the bank before this one's backward.
            bank, filled = self.bank.clone(), self._filled()
            keys = _project_bank(self.phi, bank, filled)  # (S, K, N)
            values = _project_bank(self.delta, bank, filled)
        else:
            # No slot filled counts as all filled here: finite, and replaced below.
            bank, filled = self.bank, self._filled() | (self.count == 0)
            keys, values = self.phi(bank), self.delta(bank)
        N = self.prototypes
        keys = keys.transpose(1, 2).flatten(0, 1)  # (S N, K)
        values = values.transpose(1, 2).flatten(0, 1)
        slots = keys @ query  # (B, S N, HW)
        slots = slots.masked_fill(~filled.repeat_interleave(N).unsqueeze(1), -torch.inf)
        context = values.T @ slots.softmax(1).to(values.dtype)  # (B, K, HW)
        if not self.training:
            own_keys, own_values = self.phi(prototype), self.delta(prototype)  # (B, K, N)
            own = own_values @ (own_keys.transpose(1, 2) @ query).softmax(1).to(values.dtype)
            context = torch.where(self.count > 0, context, own)
        completed: Tensor = self.rho(context)
        return completed

    def _official_context(self, flat: Tensor, prototype: Tensor, flag: str) -> Tensor:
        """Return the published context, (B, D, HW) in name only."""
        B, _, HW = flat.shape
        if flag == "train":
            self._enqueue(prototype)
            bank, filled = self.bank.clone(), self._filled()
        else:
            bank, filled = prototype, torch.ones(B, dtype=torch.bool, device=flat.device)
        keys = _project_bank(self.phi, bank, filled).squeeze(2)  # (S, K)
        values = _project_bank(self.delta, bank, filled).squeeze(2)
        attention = (keys @ self.psi(flat)).softmax(0)  # (B, S, HW), over the images
        attention = attention * filled[:, None]
        context = (attention.permute(2, 0, 1) @ values).transpose(1, 2)  # (HW, K, B)
        scrambled: Tensor = self.rho(context).contiguous().view(B, -1, HW)
        return scrambled

    def _filled(self) -> Tensor:
        """Return which slots hold a prototype, (S,)."""
        return torch.arange(self.bank_size, device=self.bank.device) < self.count

    @torch.no_grad()
    def _enqueue(self, prototype: Tensor) -> None:
        """Write the batch's prototypes (B, D, N) into the bank.

        Pointer and count stay on the device: nothing here waits for it.
        """
        prototype = gathered(prototype.to(self.bank.dtype))
        S, B = self.bank_size, prototype.shape[0]
        if self.compat:
            # What does not fit before the end is written behind it and cut off: dropped.
            index = self.bank_ptr + torch.arange(B, device=self.bank.device)
            space = torch.cat([self.bank, torch.zeros_like(prototype)])
            self.bank.copy_(space.index_copy(0, index, prototype)[:S])
            written = (S - self.bank_ptr).clamp(max=B)
        else:
            kept = min(B, S)  # of a batch larger than the bank the last S are left
            index = (self.bank_ptr + torch.arange(B - kept, B, device=self.bank.device)) % S
            self.bank.index_copy_(0, index, prototype[B - kept :])
            written = torch.full_like(self.bank_ptr, B)
        self.bank_ptr.copy_((self.bank_ptr + written) % S)
        self.count.copy_((self.count + written).clamp(max=S))


def _unit2d(channels: int, out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


def _unit1d(channels: int, out: int) -> nn.Sequential:
    conv = nn.Conv1d(channels, out, kernel_size=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm1d(out), nn.ReLU())


def _project_bank(unit: nn.Sequential, bank: Tensor, filled: Tensor) -> Tensor:
    """Apply phi or delta to the bank (S, D, N), with the statistics of the filled slots.

    It equals the unit on the filled slots alone, but all shapes are fixed, so that a bank that is
    filling up costs no synchronisation and no recompilation. Slots not filled come out arbitrary.

    Args:
        unit: Convolution, batch normalisation and ReLU.
        bank: The slots (S, D, N).
        filled: Which of them count, (S,).
    """
    norm = unit[1]
    assert isinstance(norm, nn.BatchNorm1d)
    if not norm.training:
        return F.relu(norm(unit[0](bank)))
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    y = unit[0](bank).to(norm.weight.dtype)
    mask = filled.to(y.dtype).view(-1, 1, 1)
    n = mask.sum() * bank.shape[2]
    mean = (y * mask).sum((0, 2)) / n
    variance = ((y - mean[:, None]).square() * mask).sum((0, 2)) / n
    enough = n > 1
    mean = torch.where(enough, mean, norm.running_mean)
    variance = torch.where(enough, variance, norm.running_var)
    with torch.no_grad():
        unbiased = torch.where(enough, variance * n / (n - 1), variance)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(unbiased, norm.momentum)
        norm.num_batches_tracked.add_(enough)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return F.relu((y - mean[:, None]) * scale[:, None] + norm.bias[:, None])


def _count_slots(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    """Give a state dict of the published code the `count` it lacks."""
    bank = state_dict.get(f"{prefix}bank")
    if f"{prefix}count" not in state_dict and isinstance(bank, Tensor):
        state_dict[f"{prefix}count"] = bank.flatten(1).any(1).sum().view(1)

"""The two computations that make axial attention fast, without its parameters.

Both avoid passes over the L x L logits, of which there is one map for every line and head: they
are the largest tensors of a network with axial attention by far, and everything done to them is
bound by memory.

**Variances without the products.** A batch normalisation of s_pq = a_p . b_q needs the variance of
s over all rows m, all p and all q. With c_m the mean of b over q and b' = b - c_m, the two parts
of s = a_p . c_m + a_p . b'_q are uncorrelated, since the second sums to 0 over q:

    Var(s) = Var_{m,p}(a_p . c_m) + mean_m <sum_p a_p a_p^T / P, sum_q b'_q b'_q^T / Q>

with <.,.> the sum of the elementwise product of two c x c matrices. All that is added is a square,
or a sum of squares written as such a product, so nothing cancels.

**Attention with positions.** A normalisation's mean and shift add a constant to all logits of a
head, which the softmax over j does not see; what remains are factors, folded into q and k. Then

    s_ij = q_i . k_j + q'_i . Rq_ij + k'_j . Rk_ji,    a = softmax_j s
    y_i  = sum_j a_ij v_j,    z_i = sum_j a_ij Rv_ij

takes three matrix products that are accumulated in place, and keeps only `a` for its backward
pass, which in turn works in place on one more tensor of that size. Written with ordinary
operations, autograd keeps more and allocates a tensor for each.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def product_moments(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of all a_p . b_q, for each head (see the module).

    Args:
        a: Vectors of length c, (M, G, c, P).
        b: Those they are multiplied with, (M, G, c, Q), or (M, 1, c, Q) for all heads alike.

    Returns:
        Mean and variance over M, P and Q, (G,) each.
    """
    M, _, _, P = a.shape
    Q = b.shape[-1]
    centre = b.mean(-1, keepdim=True)
    spread = b - centre
    between, mean = torch.var_mean(centre.transpose(-1, -2) @ a, (0, 2, 3), correction=0)
    within = (a @ a.transpose(-1, -2)) * (spread @ spread.transpose(-1, -2))
    return mean, torch.add(between, within.sum((0, 2, 3)), alpha=1 / (M * P * Q))


class PositionAttention(torch.autograd.Function):
    """Softmax attention whose logits and values have position terms (see the module).

    `apply(q, k, q_r, k_r, v, table_q, table_k, table_v)` with q, k, q_r and k_r (N, d, L), v
    (N, c, L), table_q and table_v (d or c, i, j), table_k (d, j, i), all of one type, returns y
    and z, (N, c, L) each. It has no second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        q_r: Tensor,
        k_r: Tensor,
        v: Tensor,
        table_q: Tensor,
        table_k: Tensor,
        table_v: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return y and z, (N, c, L) each."""
        logits = torch.bmm(q.transpose(1, 2), k)  # (N, i, j)
        by_i = logits.transpose(0, 1)
        by_i.baddbmm_(_by_position(q_r), table_q.transpose(0, 1))
        by_j = torch.bmm(_by_position(k_r), table_k.transpose(0, 1))  # (j, N, i)
        logits += by_j.permute(1, 2, 0)
        weights = logits.softmax(-1)
        y = torch.bmm(v, weights.transpose(1, 2))
        z = torch.bmm(weights.transpose(0, 1), table_v.permute(1, 2, 0))  # (i, N, c)
        ctx.save_for_backward(q, k, q_r, k_r, v, table_q, table_k, table_v, weights)
        return y, z.permute(1, 2, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_z: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the eight arguments."""
        q, k, q_r, k_r, v, table_q, table_k, table_v, weights = ctx.saved_tensors
        grad_z = _by_position(grad_z)  # (i, N, c)
        grad_v = torch.bmm(grad_y, weights)
        grad_table_v = torch.bmm(grad_z.transpose(1, 2), weights.transpose(0, 1))  # (i, c, j)
        grad = torch.bmm(grad_y.transpose(1, 2), v)  # of the weights, (N, i, j)
        grad.transpose(0, 1).baddbmm_(grad_z, table_v.transpose(0, 1))
        # Through the softmax, in place: a (g - sum_j a g).
        grad *= weights
        grad.addcmul_(weights, grad.sum(-1, keepdim=True, dtype=grad.dtype), value=-1)
        grad_q = torch.bmm(k, grad.transpose(1, 2))
        grad_k = torch.bmm(q, grad)
        by_i = grad.transpose(0, 1)
        grad_q_r = torch.bmm(by_i, table_q.permute(1, 2, 0))  # (i, N, d)
        grad_table_q = torch.bmm(_by_position(q_r).transpose(1, 2), by_i)  # (i, d, j)
        # One copy with j before i lets both products with the keys' table read in order.
        by_j = grad.transpose(1, 2).contiguous().transpose(0, 1)  # (j, N, i)
        grad_k_r = torch.bmm(by_j, table_k.permute(1, 2, 0))  # (j, N, d)
        grad_table_k = torch.bmm(_by_position(k_r).transpose(1, 2), by_j)  # (j, d, i)
        return (
            grad_q,
            grad_k,
            grad_q_r.permute(1, 2, 0),
            grad_k_r.permute(1, 2, 0),
            grad_v,
            grad_table_q.transpose(0, 1),
            grad_table_k.transpose(0, 1),
            grad_table_v.transpose(0, 1),
        )


def _by_position(x: Tensor) -> Tensor:
    """Return lines (N, c, L) as (L, N, c), one matrix for each position."""
    return x.permute(2, 0, 1).contiguous()


def attend_without_position(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with q and k (N, heads, d, L) to v (N, heads, c, L); returns (N, heads, c, L)."""
    q, k, v = (vectors.transpose(2, 3) for vectors in (q, k, v))
    if torch.backends.cuda.flash_sdp_enabled():  # type: ignore[no-untyped-call]
        # The fused kernels, that of the CPU among them, want one width; zeros change no product.
        missing = v.shape[-1] - q.shape[-1]
        q, k, v = F.pad(q, (0, missing)), F.pad(k, (0, missing)), v.contiguous()
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(2, 3)


@torch.no_grad()
def move_running(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics by a batch's, as the normalisation itself would.

    Args:
        norm: Whose statistics.
        mean: Of the batch.
        variance: Of the batch, biased.
        count: Values for each of them.
    """
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    for running, batch in (
        (norm.running_mean, mean),
        (norm.running_var, variance * (count / (count - 1))),
    ):
        momentum = norm.momentum
        share = 1 / norm.num_batches_tracked.to(running.dtype) if momentum is None else momentum
        running.lerp_(batch.to(running.dtype), share)


def distances(length: int, device: torch.device) -> Tensor:
    """Return i - j + length - 1 for all pairs (i, j), flattened."""
    positions = torch.arange(length, device=device)
    return (positions[:, None] - positions[None, :] + length - 1).flatten()

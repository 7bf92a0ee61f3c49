import torch
from torch import Tensor, nn

from attnsearch.runs.training.averages import Averages, lent
from attnsearch.runs.training.train import Training
from tests.runs.training.test_train import make_config, make_data, trained


def small() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    network.register_buffer("bank", torch.zeros(2))
    return network


def moved(network: nn.Module, step: int) -> None:
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            value += 1 if not value.is_floating_point() else step**2


def test_the_average_is_the_closed_form() -> None:
    """m_T is the sum of w_t (1 - d_t) d_(t+1) ... d_T, and of w_0 with the product of all."""
    network, decay = small(), 0.3
    averages = Averages(network, decay)
    seen = [network[0].weight.detach().double().clone()]
    for step in range(1, 9):
        moved(network, step)
        averages.update()
        seen.append(network[0].weight.detach().double().clone())
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(1, 9)]
    assert decays[0] < decay == decays[-1]  # both sides of the warm-up
    shares = torch.tensor([1.0, *(1 - d for d in decays)], dtype=torch.float64)
    for t, d in enumerate(decays, 1):
        shares[:t] *= d
    assert abs(float(shares.sum()) - 1) < 1e-12
    expected = sum(share * weight for share, weight in zip(shares, seen, strict=True))
    assert isinstance(expected, Tensor)
    state = averages.network_state()
    torch.testing.assert_close(state["0.weight"].double(), expected)
    # Running statistics are averaged as weights are; what counts or is a bank is not.
    start = seen[0][0, 0]
    shift = float(state["0.weight"][0, 0] - start)
    torch.testing.assert_close(state["1.running_mean"], torch.full((2,), shift))
    assert torch.equal(state["bank"], network.get_buffer("bank"))
    assert torch.equal(state["1.num_batches_tracked"], network[1].num_batches_tracked)


def test_before_a_step_the_weights_count_as_loaded() -> None:
    network = small()
    averages = Averages(network, 0.9)
    moved(network, 1)
    assert torch.equal(averages.network_state()["0.weight"], network[0].weight)


def test_a_shared_weight_is_averaged_under_both_names() -> None:
    network = small()
    network.append(network[1])
    averages = Averages(network, 0.5)
    moved(network, 1)
    averages.update()
    state = averages.network_state()
    for name in ("weight", "running_mean"):
        assert torch.equal(state[f"1.{name}"], state[f"2.{name}"])
        assert not torch.equal(state[f"1.{name}"], network.state_dict()[f"1.{name}"])


def test_weights_are_lent_and_come_back() -> None:
    network, other = small(), small()
    before = network[0].weight.detach().clone()
    with lent(network, other.state_dict()):
        assert torch.equal(network[0].weight, other[0].weight)
    assert torch.equal(network[0].weight, before)


def finished(training: Training) -> Training:
    while not training.done:
        training.run_epoch()
    return training


def test_an_average_is_scored_and_exported_and_does_not_disturb_the_training() -> None:
    plain = finished(trained(make_config(epochs=2), make_data(), threads=1))
    averaged = finished(trained(make_config(epochs=2, ema=0.9), make_data(), threads=1))
    for name, weight in plain.network.state_dict().items():
        assert torch.equal(averaged.network.state_dict()[name], weight), name
    assert plain.history[-1]["train_loss"] == averaged.history[-1]["train_loss"]
    assert plain.history[-1]["val_loss"] != averaged.history[-1]["val_loss"]
    exported = averaged.result_state()
    loaded = trained(make_config(epochs=2, ema=0.9), make_data(), threads=1)
    loaded.network.load_state_dict(exported)
    assert loaded.evaluate("val")[0]["loss"] == averaged.history[-1]["val_loss"]
    assert averaged.evaluate("val")[0]["loss"] == averaged.history[-1]["val_loss"]

"""The process of the baselines: ResNet-18 of PyTorch, trained by backprop or by BioTorch's methods.

    python benchmarks/torch_baselines.py BATCH SIZE METHOD...

A method is `backprop`, `fa`, `usf` or `brsf`. The first line out says what runs; then each line in
is a method, and the line out the seconds of one step. Needs `torch`; the layers are those of the
package `biotorch` (`pip install --no-deps biotorch` is enough), or, without it, the ones below,
written from its description (Sanfiz & Akrout 2021, arXiv:2108.13446).
"""

import contextlib
import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # don't spin while the others have their turn

import torch
from torch import nn

try:
    from biotorch.module.biomodule import BioModule
except ImportError:
    BioModule = None


class FeedbackConv(torch.autograd.Function):
    """A convolution whose error travels through another kernel."""

    @staticmethod
    def forward(context, x, weight, feedback, stride, padding):
        """The product op(x; W)."""
        context.save_for_backward(x, weight, feedback)
        context.how = stride, padding
        return nn.functional.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(context, dy):
        """The error through the feedback kernel, and the kernel's gradient."""
        x, weight, feedback = context.saved_tensors
        stride, padding = context.how
        dx = None
        if context.needs_input_grad[0]:
            dx = nn.grad.conv2d_input(x.shape, feedback, dy, stride, padding)
        dw = nn.grad.conv2d_weight(x, weight.shape, dy, stride, padding)
        return dx, dw, None, None, None


class FeedbackLinear(torch.autograd.Function):
    """A dense product whose error travels through another kernel."""

    @staticmethod
    def forward(context, x, weight, feedback):
        """The product op(x; W)."""
        context.save_for_backward(x, feedback)
        return x @ weight.T

    @staticmethod
    def backward(context, dy):
        """The error through the feedback kernel, and the kernel's gradient."""
        x, feedback = context.saved_tensors
        return dy @ feedback, dy.T @ x, None


def _feedback(layer: nn.Module, method: str) -> torch.Tensor:
    """The feedback kernel of a training call."""
    if method == "fa":
        return layer.feedback
    sign = torch.sign(layer.weight.detach())
    # The standard deviation of a Glorot kernel.
    scale = (2.0 / (layer.weight[0].numel() + layer.weight[:, 0].numel())) ** 0.5
    if method == "brsf":
        return scale * torch.randn_like(sign).abs() * sign
    return scale * sign


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with a feedback kernel."""

    method = "fa"

    def forward(self, x):
        """The product."""
        kernel = _feedback(self, self.method)
        return FeedbackConv.apply(x, self.weight, kernel, self.stride, self.padding)


class Linear(nn.Linear):
    """`nn.Linear` with a feedback kernel."""

    method = "fa"

    def forward(self, x):
        """The product and the bias."""
        return FeedbackLinear.apply(x, self.weight, _feedback(self, self.method)) + self.bias


def converted(network: nn.Module, method: str) -> nn.Module:
    """The network with feedback kernels."""
    if method == "backprop":
        return network
    if BioModule is not None:
        with contextlib.redirect_stdout(sys.stderr):
            return BioModule(network, mode=method)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.__class__ = Conv2d if isinstance(layer, nn.Conv2d) else Linear
            layer.method = method
            if method == "fa":
                feedback = torch.empty_like(layer.weight)
                nn.init.xavier_uniform_(feedback)
                layer.register_buffer("feedback", feedback)
    return network


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        """The block."""
        return torch.relu(self.branch(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    """ResNet-18 for 1000 classes."""
    widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in zip(widths[:-1], widths[1:], strict=True)]
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 1000),
    )


def main() -> None:
    """Builds the networks, then times a step for each line."""
    batch, size, methods = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    images, labels = torch.randn(batch, 3, size, size), torch.randint(1000, (batch,))
    networks = {method: converted(resnet18(), method) for method in methods}
    optimizers = {
        method: torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
        for method, network in networks.items()
    }
    layers = "own layers" if BioModule is None else "BioTorch"
    print(f"PyTorch {torch.__version__}, {layers}", flush=True)
    for line in sys.stdin:
        method = line.strip()
        started = time.perf_counter()
        optimizers[method].zero_grad()
        loss = nn.functional.cross_entropy(networks[method](images), labels)
        loss.backward()
        optimizers[method].step()
        loss.item()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()

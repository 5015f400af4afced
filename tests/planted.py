"""Functions that are wrong on purpose."""

import torch


class Distorted(torch.autograd.Function):
    """The identity, but for the gradient."""

    @staticmethod
    def forward(ctx, tensor, factor):
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


def planted(function, what, factor=1.01):
    """A function whose result, or the gradient of the argument with this number, is wrong."""

    def wrong(*args, **options):
        if what == "result" or (what == "inference" and not torch.is_grad_enabled()):
            return function(*args, **options) * factor
        if what in range(len(args)):
            args = (*args[:what], Distorted.apply(args[what], factor), *args[what + 1 :])
        return function(*args, **options)

    return wrong

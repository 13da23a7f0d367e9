"""Recurrent cells and their backward passes through time in NumPy, written from the equations.

Each function gives the outputs `[n, steps, units]` and a function of their errors that gives the
gradients of x, W, R and the bias: errors travel down through B and back in time through C.
"""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def simple_rnn(x, w, r, bias, b, c):
    n, steps, _ = x.shape
    h = np.zeros((steps + 1, n, r.shape[0]))
    for t in range(steps):
        h[t + 1] = np.tanh(x[:, t] @ w + h[t] @ r + bias)

    def backward(errors):
        dx, dw, dr, dbias = zeros(x, w, r, bias)
        dh = np.zeros_like(h[0])
        for t in reversed(range(steps)):
            dz = (dh + errors[:, t]) * (1 - h[t + 1] ** 2)
            dx[:, t], dh = dz @ b.T, dz @ c.T
            dw += x[:, t].T @ dz
            dr += h[t].T @ dz
            dbias += dz.sum(0)
        return dx, dw, dr, dbias

    return h[1:].swapaxes(0, 1), backward


def lstm(x, w, r, bias, b, c):
    n, steps, _ = x.shape
    units = r.shape[0]
    h, cells = np.zeros((steps + 1, n, units)), np.zeros((steps + 1, n, units))
    gates = []
    for t in range(steps):
        i, f, g, o = np.split(x[:, t] @ w + h[t] @ r + bias, 4, 1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        cells[t + 1] = f * cells[t] + i * g
        h[t + 1] = o * np.tanh(cells[t + 1])
        gates.append((i, f, g, o))

    def backward(errors):
        dx, dw, dr, dbias = zeros(x, w, r, bias)
        dh = dcell = np.zeros_like(h[0])
        for t in reversed(range(steps)):
            i, f, g, o = gates[t]
            dh = dh + errors[:, t]
            out = np.tanh(cells[t + 1])
            dcell = dcell + dh * o * (1 - out**2)
            parts = dcell * g * i * (1 - i), dcell * cells[t] * f * (1 - f)
            dz = np.concatenate([*parts, dcell * i * (1 - g**2), dh * out * o * (1 - o)], 1)
            dcell = dcell * f
            dx[:, t], dh = dz @ b.T, dz @ c.T
            dw += x[:, t].T @ dz
            dr += h[t].T @ dz
            dbias += dz.sum(0)
        return dx, dw, dr, dbias

    return h[1:].swapaxes(0, 1), backward


def gru(x, w, r, bias, b, c):
    """The reset gate acts behind the recurrent product; `bias` is two rows."""
    n, steps, _ = x.shape
    units = r.shape[0]
    h, kept = np.zeros((steps + 1, n, units)), []
    for t in range(steps):
        xz, xr, xg = np.split(x[:, t] @ w + bias[0], 3, 1)
        hz, hr, hg = np.split(h[t] @ r + bias[1], 3, 1)
        z, reset = sigmoid(xz + hz), sigmoid(xr + hr)
        g = np.tanh(xg + reset * hg)
        h[t + 1] = z * h[t] + (1 - z) * g
        kept.append((z, reset, g, hg))

    def backward(errors):
        dx, dw, dr, dbias = zeros(x, w, r, bias)
        dh = np.zeros_like(h[0])
        for t in reversed(range(steps)):
            z, reset, g, hg = kept[t]
            dh = dh + errors[:, t]
            dz = dh * (h[t] - g) * z * (1 - z)
            dg = dh * (1 - z) * (1 - g**2)
            dreset = dg * hg * reset * (1 - reset)
            down = np.concatenate([dz, dreset, dg], 1)
            back = np.concatenate([dz, dreset, dg * reset], 1)
            dx[:, t], dh = down @ b.T, dh * z + back @ c.T
            dw += x[:, t].T @ down
            dr += h[t].T @ back
            dbias += np.stack([down.sum(0), back.sum(0)])
        return dx, dw, dr, dbias

    return h[1:].swapaxes(0, 1), backward


def gru_reset_before(x, w, r, bias, b, c):
    n, steps, _ = x.shape
    units = r.shape[0]
    h, kept = np.zeros((steps + 1, n, units)), []
    for t in range(steps):
        xz, xr, xg = np.split(x[:, t] @ w + bias, 3, 1)
        z = sigmoid(xz + h[t] @ r[:, :units])
        reset = sigmoid(xr + h[t] @ r[:, units : 2 * units])
        g = np.tanh(xg + (reset * h[t]) @ r[:, 2 * units :])
        h[t + 1] = z * h[t] + (1 - z) * g
        kept.append((z, reset, g))

    def backward(errors):
        dx, dw, dr, dbias = zeros(x, w, r, bias)
        dh = np.zeros_like(h[0])
        for t in reversed(range(steps)):
            z, reset, g = kept[t]
            dh = dh + errors[:, t]
            dz = dh * (h[t] - g) * z * (1 - z)
            dg = dh * (1 - z) * (1 - g**2)
            into = dg @ c[:, 2 * units :].T  # of reset * h
            dreset = into * h[t] * reset * (1 - reset)
            down = np.concatenate([dz, dreset, dg], 1)
            dx[:, t] = down @ b.T
            dh = dh * z + into * reset + down[:, : 2 * units] @ c[:, : 2 * units].T
            dw += x[:, t].T @ down
            dr[:, : 2 * units] += h[t].T @ down[:, : 2 * units]
            dr[:, 2 * units :] += (reset * h[t]).T @ dg
            dbias += down.sum(0)
        return dx, dw, dr, dbias

    return h[1:].swapaxes(0, 1), backward


def zeros(*arrays):
    return [np.zeros_like(each) for each in arrays]

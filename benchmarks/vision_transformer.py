"""A small vision transformer of Keras layers, for networks of attention."""

import keras

L = keras.layers


def vision_transformer(
    width: int = 32,
    heads: int = 2,
    depth: int = 2,
    input_shape: tuple[int, int, int] = (28, 28, 1),
) -> keras.Model:
    """Patches of 7 x 7, a bias for each position, pre-normalised blocks, mean over the tokens.

    Args:
        width: Size of a token.
        heads: Attention heads, which share the width.
        depth: Blocks.
        input_shape: Height and width of the images, 28 each, and channels.

    Returns:
        A network with 10 logits.
    """
    inputs = keras.Input(input_shape)
    x = L.Reshape((16, width))(L.Conv2D(width, 7, 7, name="patches")(inputs))
    x = L.EinsumDense("bte,ef->btf", (16, width), bias_axes="tf", name="positions")(x)
    for index in range(depth):
        y = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(heads, width // heads, name=f"mha{index}")(y, y)])
        y = L.Dense(2 * width, "gelu", name=f"mlp{index}_0")(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(width, name=f"mlp{index}_1")(y)])
    x = L.GlobalAveragePooling1D()(L.LayerNormalization()(x))
    return keras.Model(inputs, L.Dense(10, name="top")(x))

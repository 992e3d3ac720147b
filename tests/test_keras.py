"""varprop.keras: the numbers of varprop.weights in Keras's layers, saved and loaded."""

import numpy as np
import pytest

import varprop as vp

keras = pytest.importorskip("keras")

# Keras's own arrays, as NumPy 2 finds them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("law", ["he_normal", "orthogonal", vp.Uniform(-1, 1), 0.5])
def test_numbers(law, dtype):
    init = vp.keras.initializer(law, 3, "w")
    assert isinstance(init, keras.initializers.Initializer)
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 by default")
    expected = vp.weights((8, 12), law, seed=3, name="w", dtype=dtype)
    assert numbers(init((8, 12), dtype)).tobytes() == expected.tobytes()


def test_defaults():
    init = vp.keras.initializer("normal", seed=3)
    expected = vp.weights((2, 3, 4, 5), "normal", seed=3)
    assert (numbers(init((2, 3, 4, 5))) == expected).all()
    assert numbers(init((2, 3), None)).dtype == keras.config.floatx()


@pytest.mark.parametrize("law", ["he_normal", "trunc_normal(std=0.02)", vp.Normal(0.1), np.eye(3)])
def test_configuration(law):
    init = vp.keras.initializer(law, seed=3, name="w")
    config = keras.saving.serialize_keras_object(init)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(init)
    for other in (again, type(init).from_config(init.get_config())):
        assert (numbers(other((3, 3))) == numbers(init((3, 3)))).all()
    if not isinstance(law, np.ndarray):
        expected = {"law": str(vp.initializers.resolve(law)), "seed": 3, "name": "w"}
        assert init.get_config() == expected


def model():
    def initial(law, name):
        return vp.keras.initializer(law, seed=1, name=name)

    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, (3, 2), kernel_initializer=initial("he_normal", "conv")),
            keras.layers.Flatten(),
            keras.layers.Dense(
                5,
                kernel_initializer=initial("glorot_uniform", "dense"),
                bias_initializer=initial(vp.Normal(0.1), "bias"),
            ),
        ]
    )


def test_layers():
    conv, _, dense = model().layers
    expected = vp.weights((3, 2, 3, 4), "he_normal", seed=1, name="conv")
    assert (numbers(conv.kernel) == expected).all()
    expected = vp.weights((6 * 7 * 4, 5), "glorot_uniform", seed=1, name="dense")
    assert (numbers(dense.kernel) == expected).all()
    assert (numbers(dense.bias) == vp.weights(5, "normal(std=0.1)", seed=1, name="bias")).all()


def test_models_save_and_load(tmp_path):
    net = model()
    net.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].kernel_initializer.get_config()["name"] == "conv"
    fresh = keras.models.clone_model(loaded)  # draws anew
    for one, two in zip(net.weights, fresh.weights, strict=True):
        assert (numbers(one) == numbers(two)).all()


def test_bad_input():
    with pytest.raises(ValueError, match="unknown law 'he_norml': did you mean 'he_normal'"):
        vp.keras.initializer("he_norml", seed=1)
    with pytest.raises(ValueError, match="he_normal needs at least 2 dimensions"):
        vp.keras.initializer("he_normal", seed=1)((3,))
    with pytest.raises(TypeError, match="seed must be an integer"):
        vp.keras.initializer("he_normal", seed=1.5)((3, 3))

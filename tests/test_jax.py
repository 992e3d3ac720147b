"""varprop.jax: the numbers of varprop.weights, from JAX's keys, in and out of jit."""

import numpy as np
import pytest

import varprop as vp

jax = pytest.importorskip("jax")
jnp = jax.numpy

SHAPE, LAW = (24, 70), "he_normal"


def same(array, seed, shape=SHAPE, law=LAW, dtype="float32"):
    expected = vp.weights(shape, law, seed=seed, dtype=dtype)
    assert isinstance(array, jax.Array)
    assert array.dtype == expected.dtype
    # As bytes: NaN and -0 too.
    assert np.asarray(array).tobytes() == expected.tobytes()


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_numbers(make, dtype):
    init = vp.jax.initializer(LAW)
    key = make(7)
    same(init(key, SHAPE, getattr(jnp, dtype)), 7, dtype=dtype)
    same(jax.jit(lambda key: init(key, SHAPE, getattr(jnp, dtype)))(key), 7, dtype=dtype)


def test_float64_where_jax_has_it():
    init = vp.jax.initializer("normal")
    same(init(jax.random.key(1), SHAPE, np.float64), 1, law="normal")  # float32, as JAX says
    jax.config.update("jax_enable_x64", True)
    try:
        same(
            init(jax.random.key(2**40 + 5), SHAPE, jnp.float64),
            2**40 + 5,
            SHAPE,
            "normal",
            "float64",
        )
        drawn = jax.jit(lambda key: init(key, SHAPE, jnp.float64))(jax.random.key(3))
        same(drawn, 3, law="normal", dtype="float64")
        same(init(jax.random.key(3), SHAPE), 3, law="normal")
    finally:
        jax.config.update("jax_enable_x64", False)


def test_all_bits_of_a_key_are_the_seed():
    init = vp.jax.initializer(LAW)
    key = jax.random.split(jax.random.key(1), 3)[2]
    high, low = (int(word) for word in jax.random.key_data(key))
    same(init(key, SHAPE), 2**32 * high + low)
    same(init(np.array([high, low], np.uint32), SHAPE), 2**32 * high + low)
    wide = jax.random.key(5, impl="rbg")  # four words
    same(init(wide, SHAPE), sum(int(w) << (96 - 32 * i) for i, w in enumerate(wide._base_array)))


@pytest.mark.parametrize(
    ("law", "shape"),
    [("orthogonal", (5, 8)), ("glorot_uniform", (3, 3, 4, 8)), (vp.Normal(0.1), ()), (2.5, (3,))],
)
def test_laws_and_shapes(law, shape):
    init = vp.jax.initializer(law)
    same(init(jax.random.key(1), shape), 1, shape, law)
    same(jax.jit(init, static_argnums=1)(jax.random.key(1), shape), 1, shape, law)


def test_given_weights():
    array = np.arange(6.0).reshape(2, 3)
    assert (vp.jax.initializer(array)(jax.random.key(0), (2, 3)) == array).all()


def test_under_vmap_and_scan():
    init = vp.jax.initializer(LAW)
    keys = jax.random.split(jax.random.key(1), 4)
    one_by_one = jnp.stack([init(key, SHAPE) for key in keys])
    assert (jax.vmap(lambda key: init(key, SHAPE))(keys) == one_by_one).all()
    _, scanned = jax.lax.scan(lambda carry, key: (carry, init(key, SHAPE)), 0, keys)
    assert (scanned == one_by_one).all()


def test_shapes_alone():
    init = vp.jax.initializer(LAW)
    made = jax.eval_shape(lambda key: init(key, SHAPE, jnp.bfloat16), jax.random.key(0))
    assert made.shape == SHAPE
    assert made.dtype == jnp.bfloat16


def test_bad_input():
    with pytest.raises(ValueError, match="unknown law 'he_norml': did you mean 'he_normal'"):
        vp.jax.initializer("he_norml")
    with pytest.raises(ValueError, match="unknown dtype 'int32'"):
        vp.jax.initializer(LAW)(jax.random.key(0), SHAPE, jnp.int32)
    for call in (lambda f: f, jax.jit):
        with pytest.raises(ValueError, match="he_normal needs at least 2 dimensions"):
            call(lambda key: vp.jax.initializer(LAW)(key, (3,)))(jax.random.key(0))

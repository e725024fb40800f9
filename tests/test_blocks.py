"""Dicts of attributes: images and feature vectors through the front door."""

import numpy as np
import pytest
import torch

import vsae_fast
from vsae_fast import VSAEImputer, metrics
from vsae_fast.models import CVAE, HIVAE, MIWAE, MVAE, VAE, VSAE, Autoencoder
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import build_preset
from vsae_fast.table.containers import read_table

FAST = {"epochs": 2, "random_state": 0, "n_models": 1}
N = 90


@pytest.fixture(scope="module")
def attributes():
    """Images of one of two shapes, features that follow it, its name, and a number."""
    random = np.random.default_rng(0)
    kind = random.integers(0, 2, N)
    strength = random.random(N)
    shapes = np.zeros((2, 6, 5))
    shapes[0, :3], shapes[1, :, 2] = 1, 1
    image = 200 * shapes[kind] * (0.5 + 0.5 * strength[:, None, None]) + random.integers(0, 20, (N, 6, 5))
    features = np.column_stack([kind, strength]) @ random.normal(size=(2, 7)) + 0.05 * random.normal(size=(N, 7))
    return {
        "image": image.astype(np.uint8),
        "features": features.astype(np.float32),
        "name": np.array(["bar", "post"], dtype=object)[kind],
        "strength": strength,
    }


@pytest.fixture(scope="module")
def mask():
    return np.random.default_rng(1).random((N, 4)) < 0.75


@pytest.fixture(scope="module")
def completed(attributes, mask):
    return vsae_fast.impute(attributes, mask, **FAST)


def test_every_attribute_comes_back_whole_and_observed_ones_untouched(attributes, mask, completed):
    assert list(completed) == list(attributes)
    for j, (name, values) in enumerate(attributes.items()):
        assert completed[name].dtype == values.dtype
        assert completed[name].shape == values.shape
        assert (completed[name][mask[:, j]] == values[mask[:, j]]).all()
        assert completed[name] is not values
    assert np.isfinite(completed["features"]).all()
    assert set(completed["name"]) <= {"bar", "post"}


def test_input_is_not_modified(attributes, mask):
    before = {name: values.copy() for name, values in attributes.items()}
    vsae_fast.impute(attributes, mask, **FAST)
    for name, values in attributes.items():
        np.testing.assert_array_equal(values, before[name])


def test_trained_longer_it_beats_the_mean_and_the_mode(attributes, mask):
    completed = vsae_fast.impute(attributes, mask, epochs=60, random_state=0, n_models=1)
    for j, name in enumerate(("image", "features")):
        hidden = ~mask[:, j]
        truth, guess = (part[name][hidden].astype(float) for part in (attributes, completed))
        mean = attributes[name][mask[:, j]].astype(float).mean(0)
        assert ((truth - guess) ** 2).mean() < 0.6 * ((truth - mean) ** 2).mean()
    hidden = ~mask[:, 2] & mask[:, 0]
    assert (completed["name"] == attributes["name"])[hidden].mean() > 0.8


def test_mask_by_name_and_nan_blocks_are_the_same(attributes, mask, completed):
    by_name = dict(zip(attributes, mask.T, strict=True))
    again = vsae_fast.impute(attributes, by_name, **FAST)
    holes = {name: values.copy() for name, values in attributes.items()}
    holes["features"][~mask[:, 1]] = np.nan
    holes["name"][~mask[:, 2]] = None
    holes["strength"][~mask[:, 3]] = np.nan
    visible = mask | [False, True, True, True]
    visible[:, 1:] &= mask[:, 1:]
    third = vsae_fast.impute(holes, visible, **FAST)
    for name, values in completed.items():
        np.testing.assert_array_equal(values, again[name])
        np.testing.assert_array_equal(values, third[name])


def test_integers_are_rounded_inside_their_observed_range(attributes, mask, completed):
    hidden = completed["image"][~mask[:, 0]]
    known = attributes["image"][mask[:, 0]]
    assert hidden.min() >= known.min()
    assert hidden.max() <= known.max()
    limited = vsae_fast.impute(attributes, mask, min_value={"image": 10}, max_value={"image": 60}, **FAST)
    hidden = limited["image"][~mask[:, 0]]
    assert hidden.min() >= 10
    assert hidden.max() <= 60


def test_tensors_and_lists(attributes, mask):
    mixed = {
        "image": torch.from_numpy(attributes["image"]),
        "name": list(attributes["name"]),
        "features": torch.from_numpy(attributes["features"]).double(),
    }
    result = vsae_fast.impute(mixed, mask[:, [0, 2, 1]], **FAST)
    assert isinstance(result["image"], torch.Tensor)
    assert result["image"].dtype == torch.uint8
    assert result["features"].dtype == torch.float64
    assert isinstance(result["name"], np.ndarray)
    assert result["name"].shape == (N,)


def test_rows_are_imputed_alone_and_files_keep_it(attributes, mask, tmp_path):
    imputer = VSAEImputer(**FAST).fit(attributes, mask=mask)
    whole = imputer.transform(attributes, mask=mask)
    one = {name: values[7:8] for name, values in attributes.items()}
    part = imputer.transform(one, mask=mask[7:8])
    imputer.save(tmp_path / "blocks.vsae")
    loaded = VSAEImputer.load(tmp_path / "blocks.vsae").transform(attributes, mask=mask)
    for name, values in whole.items():
        np.testing.assert_array_equal(part[name], values[7:8])
        np.testing.assert_array_equal(loaded[name], values)


def test_all_and_nothing_missing(attributes, mask):
    imputer = VSAEImputer(**FAST).fit(attributes, mask=mask)
    everything = imputer.transform(attributes, mask=np.zeros((N, 4), dtype=bool))
    assert np.isfinite(everything["features"]).all()
    nothing = imputer.transform(attributes, mask=np.ones((N, 4), dtype=bool))
    for name, values in attributes.items():
        np.testing.assert_array_equal(nothing[name], values)


def test_the_papers_preset_chooses_the_epoch_of_images_by_hidden_attributes():
    image, number = AttributeLayout(("numerical",), (64,)), AttributeLayout(("numerical",), (1,))
    assert build_preset("paper", image, 100, 50).plan.validate_by == "hidden cells"
    assert build_preset("paper", number, 100, 50).plan.validate_by == "bound"


def test_draws_differ_and_pictures_of_their_spread_have_no_blocks(attributes, mask):
    draws = VSAEImputer(**FAST).fit(attributes, mask=mask).sample(attributes, 3, mask)
    first, second = draws[0], draws[1]
    assert (first["features"][~mask[:, 1]] != second["features"][~mask[:, 1]]).any()
    np.testing.assert_array_equal(first["features"][mask[:, 1]], attributes["features"][mask[:, 1]])
    mean = draws.mean()
    assert np.isnan(mean[:, :3]).all()  # blocks and levels
    assert np.isfinite(mean[:, 3]).all()


def test_blocks_that_say_nothing_are_kept_out(attributes):
    odd = dict(attributes, blank=np.zeros((N, 4)), gone=np.full((N, 2, 2), np.nan), same=np.tile([1.0, 2.0], (N, 1)))
    visible = np.ones((N, 7), dtype=bool)
    visible[:, 5] = False
    visible[:9, 4], visible[:9, 6] = False, False
    with pytest.warns(UserWarning, match="without any observed cell: gone; constant: blank, same"):
        result = vsae_fast.impute(odd, visible, **FAST)
    assert not result["blank"].any()
    assert not result["gone"].any()
    np.testing.assert_array_equal(result["same"], odd["same"])
    with pytest.warns(UserWarning, match="Columns kept out"):
        dropped = VSAEImputer(keep_empty_features=False, **FAST).fit_transform(odd, mask=visible)
    assert "gone" not in dropped


def test_indicators_and_names(attributes, mask):
    imputer = VSAEImputer(add_indicator=True, **FAST)
    result = imputer.fit_transform(attributes, mask=mask)
    np.testing.assert_array_equal(result["missingindicator_image"], ~mask[:, 0])
    assert list(imputer.get_feature_names_out()) == list(result)
    assert "6 x 5 numbers" in str(imputer.schema_)


def test_errors_are_counted_over_blocks(attributes, mask, completed):
    hidden = ~mask[:, 0]
    error = (attributes["image"][hidden].astype(float) - completed["image"][hidden]).ravel()
    assert metrics.mse(attributes, completed, mask, columns=["image"]) == pytest.approx((error**2).mean())
    deviation = attributes["image"].astype(float).std()
    ours = metrics.nrmse(attributes, completed, mask, columns=["image"])
    assert ours == pytest.approx(np.sqrt((error**2).mean()) / deviation)
    assert metrics.pfc(attributes, completed, mask) == pytest.approx(
        (attributes["name"] != completed["name"])[~mask[:, 2]].mean()
    )


def test_ampute_hides_whole_attributes(attributes):
    hidden = vsae_fast.missingness.ampute(attributes, p=0.5, random_state=0)
    gone = np.isnan(hidden.X["image"]).all(axis=(1, 2))
    np.testing.assert_array_equal(gone, ~hidden.mask[:, 0])
    assert not np.isnan(hidden.X["image"][~gone]).any()


@pytest.mark.parametrize("mechanism", ["MAR", "MNAR"])
def test_ampute_takes_blocks_by_their_mean(attributes, mechanism):
    hidden = vsae_fast.missingness.ampute(attributes, mechanism, 0.5, random_state=3)
    assert 0.2 < 1 - hidden.mask.mean() < 0.6
    np.testing.assert_array_equal(np.isnan(hidden.X["image"]).all(axis=(1, 2)), ~hidden.mask[:, 0])


def test_half_precision_tensors_stay_what_they_are(attributes, mask):
    half = {"features": torch.from_numpy(attributes["features"]).bfloat16(), "strength": attributes["strength"]}
    result = vsae_fast.impute(half, mask[:, [1, 3]], **FAST)
    assert result["features"].dtype == torch.bfloat16
    known = torch.from_numpy(mask[:, 1])
    assert torch.equal(result["features"][known], half["features"][known])
    hidden = vsae_fast.missingness.ampute(half, p=0.5, random_state=0)
    assert hidden.X["features"].dtype == torch.bfloat16


def test_pictures_leave_blocks_out(attributes, mask, completed):
    panels = vsae_fast.plot.distributions(completed, mask)
    assert [panel.get_title() for panel in panels] == ["name", "strength"]
    imputer = VSAEImputer(**FAST).fit(attributes, mask=mask)
    with pytest.raises(ValueError, match="column 'image' is block; choose a numerical one"):
        vsae_fast.plot.overimputation(imputer, attributes, "image", mask)
    for draw in (vsae_fast.plot.missingness, vsae_fast.plot.co_missingness):
        assert draw(attributes, mask=mask) is not None


def replaced(attributes, **changes):
    return {**attributes, **changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {}, r"0 feature\(s\) \(an empty dict\)"),
        (lambda a: replaced(a, image=a["image"][:-1]), r"attributes are not paired: 'image' has 89"),
        (lambda a: replaced(a, image=a["image"][:0]), "attribute 'image' has 0 rows"),
        (lambda a: replaced(a, image=5), "attribute 'image' is a int; pass an array"),
        (lambda a: replaced(a, name="bar"), "attribute 'name' is a str; pass an array"),
        (lambda a: replaced(a, image=np.zeros((N, 0))), r"has shape \(90, 0\), which holds nothing"),
        (lambda a: replaced(a, image=a["image"].astype(str)), "blocks hold numbers"),
        (lambda a: replaced(a, image=[[1, 2], [3]] * 45), "attribute 'image' is ragged"),
        (lambda a: replaced(a, features=torch.zeros(N, 2, dtype=torch.complex64)), "holds complex numbers"),
        (lambda a: replaced(a, image=np.zeros((N, 2), "M8[D]")), r"'image' has shape \(90, 2\) and holds datetime64"),
        (
            lambda a: replaced(a, features=np.where(np.arange(7) < 3, np.nan, a["features"])),
            r"attribute 'features' holds both numbers and NaN in 90 row\(s\).*observed whole or not at all",
        ),
        (lambda a: replaced(a, features=a["features"] + np.inf), r"infinity in column\(s\) features"),
    ],
)
def test_bad_attributes_are_refused(attributes, change, message):
    with pytest.raises(ValueError, match=message):
        vsae_fast.impute(change(attributes), **FAST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[:, :3], r"mask has shape \(90, 3\), but X has shape \(90, 4\)"),
        (lambda m: {"image": m[:, 0]}, "mask lacks .*'features'"),
        (lambda m: dict(zip("abcd", m.T, strict=True)), r"mask has \['a', 'b', 'c', 'd'\], which X does not have"),
        (
            lambda m: {"image": np.ones((N, 6, 5)), "features": m[:, 1], "name": m[:, 2], "strength": m[:, 3]},
            r"mask of attribute 'image' has shape \(90, 6, 5\)",
        ),
        (lambda m: m * 2, "mask must hold booleans or 0 and 1"),
    ],
)
def test_bad_masks_are_refused(attributes, mask, change, message):
    with pytest.raises(ValueError, match=message):
        vsae_fast.impute(attributes, change(mask), **FAST)


def test_schema_that_does_not_fit_is_refused(attributes, mask):
    with pytest.raises(
        ValueError, match=r"makes attribute 'image' categorical, but each of its rows has shape \(6, 5\)"
    ):
        vsae_fast.impute(attributes, mask, schema={"image": "categorical"}, **FAST)
    with pytest.raises(ValueError, match="makes column 'strength' a block, but it has one value per row"):
        vsae_fast.impute(attributes, mask, schema={"strength": "block"}, **FAST)


def test_other_attributes_than_at_fit_are_refused(attributes, mask):
    imputer = VSAEImputer(**FAST).fit(attributes, mask=mask)
    with pytest.raises(ValueError, match="pass the same ones in the same order"):
        imputer.transform({name: attributes[name] for name in ("image", "name")})
    other = replaced(attributes, image=attributes["image"][:, :5])
    with pytest.raises(ValueError, match=r"rows of shape \(6, 5\) at fit and now has \(5, 5\)"):
        imputer.transform(other, mask=mask)


def test_large_values_do_not_overflow():
    random = np.random.default_rng(0)
    huge = {"a": 1e200 * random.random((40, 3)), "b": random.random(40)}
    visible = random.random((40, 2)) < 0.8
    result = vsae_fast.impute(huge, visible, **FAST)
    assert np.isfinite(result["a"]).all()


def test_blocks_are_read_by_rows(attributes):
    table = read_table(attributes)
    part = table.rows(10, 20)
    np.testing.assert_array_equal(part.columns()[0].values, attributes["image"][10:20].reshape(10, -1))


# ---- the torch module -----------------------------------------------------------------------------------------------


def test_models_take_attributes_by_name():
    layout = AttributeLayout(("numerical", "categorical"), (4, 3))
    attributes = {"image": torch.randn(6, 2, 2), "label": torch.eye(3)[[0, 1, 2, 0, 1, 2]]}
    joined = torch.cat([attributes["image"].flatten(1), attributes["label"]], 1)
    mask = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(3, 1)
    for kind in (VSAE, Autoencoder, VAE, CVAE, MVAE, HIVAE, MIWAE):
        torch.manual_seed(0)
        model = kind(layout).eval()
        noise = torch.randn(6, model.n_latent)
        for a, b in (
            (model.encode(attributes, mask).mean, model.encode(joined, mask).mean),
            (model.elbo(attributes, mask, latent_noise=noise), model.elbo(joined, mask, latent_noise=noise)),
            (model.impute(attributes, mask, noise).imputed, model.impute(joined, mask, noise).imputed),
        ):
            assert torch.equal(a, b), kind


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"image": torch.zeros(5, 4)}, "x has 1 attributes, but the model has 2"),
        ({"image": torch.zeros(5, 4), "label": torch.zeros(4, 3)}, "not paired: 'image' has 5, 'label' has 4 rows"),
        ({"image": torch.zeros(0, 4), "label": torch.zeros(0, 3)}, "attribute 'image' has 0 rows"),
        ({"image": torch.zeros(5, 2, 3), "label": torch.zeros(5, 3)}, r"rows of shape \(2, 3\), but the model has 4"),
    ],
)
def test_models_refuse_attributes_that_do_not_fit(attributes, message):
    model = VSAE(AttributeLayout(("numerical", "categorical"), (4, 3)))
    with pytest.raises(ValueError, match=message):
        model.encode(attributes, torch.ones(5, 2))

"""Record tests/golden: small SAEs as the libraries that train them save them, and what those libraries compute.

The tests compare our `encode` with these files, so they need none of the libraries. Recorded with torch 2.13.0,
sae-lens 6.54.12, eai-sparsify 1.3.3 and dictionary-learning 0.1.0 (`tests/golden/versions.json` says with which).
To record them again, in an environment of its own:

    pip install torch==2.13.0
    pip install sae-lens==6.54.12 eai-sparsify==1.3.3 "nnsight>=0.3,<0.4" zstandard
    pip install --no-deps dictionary-learning==0.1.0
    python tests/make_golden.py

(nnsight brings torchvision; transformers does not import where its build does not fit torch's: uninstall it.)

`<case>/` lies as its repository would. `<case>.safetensors` beside it holds, in float32,

    x            [16, 8], the input; of `hook_z` cases with the heads side by side, 2 x 4
    z            [16, 24], the library's own `encode(x)` after its own loader read the files back
    x_hat        its own `decode(z)`, which leaves out any skip connection
    forward      its own forward pass, where there is a skip connection
    z_scaled     `expected_average_only_in`: `encode(x)` after `fold_activation_norm_scaling_factor(scale)`, which
                 SAELens does on loading a release it knows the factor of; for any other, and on disk, it does not: `z`
    z_stored     AutoEncoder: `encode(x)` without the renormalised decoder that `load_dictionary` asks for

each behind `<folder>/` where the case holds several SAEs. Its metadata has one key, `oracle`: JSON with the `library`,
the `loader` and the `folders` of the SAEs within the case. The cases that end in `_refused` are files only: an SAE
that needs more than one token, or more than one pass, to encode.
"""

import json
import shutil
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE
from dictionary_learning.utils import load_dictionary
from sae_lens import SAE
from sae_lens.registry import get_sae_class, get_sae_training_class
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.__main__ import RunConfig

GOLDEN = Path(__file__).parent
D_IN, D_SAE, D_OUT, K, ROWS = 8, 24, 6, 3, 16
SCALE = 1.7  # sqrt(d_in) over the mean norm of the inputs, had these been trained on any
HEADS = (2, 4)


# ---- weights and inputs


def generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def draw(name: str, shape: tuple[int, ...], gen: torch.Generator) -> torch.Tensor:
    """Weights such that about a third of the features fire, and no bias, threshold or decoder norm is left out."""
    noise = torch.randn(shape, generator=gen)
    if name in ("W_dec", "decoder.weight"):
        features = shape.index(D_SAE)
        norms = 0.4 + 1.6 * torch.rand(D_SAE, generator=gen)
        return noise / noise.norm(dim=1 - features, keepdim=True) * norms.unsqueeze(1 - features)
    if name == "threshold":  # some below zero: the ReLU must still hold
        return 0.7 * torch.rand(shape, generator=gen) - 0.1 if shape else torch.tensor(0.35)
    if name in ("b_enc", "encoder.bias", "b_gate", "b_mag", "gate_bias", "mag_bias"):
        return 0.3 * noise - 0.4
    if len(shape) == 1:  # b_dec under its names, r_mag
        return 0.4 * noise
    return noise / 8**0.5


def redraw(tensors: dict[str, torch.Tensor], gen: torch.Generator) -> dict[str, torch.Tensor]:
    """Return `tensors` with every floating one drawn anew, in the order of their names."""
    return {
        name: draw(name, tuple(tensor.shape), gen).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in sorted(tensors.items())
    }


def inputs(gen: torch.Generator) -> torch.Tensor:
    """Rows from small to large, off centre."""
    scales = torch.linspace(0.3, 2.5, ROWS).unsqueeze(1)
    return scales * (torch.randn(ROWS, D_IN, generator=gen) + 0.2)


# ---- recording


def fresh(case: str) -> Path:
    """Return the empty folder of `case`."""
    folder = GOLDEN / case
    shutil.rmtree(folder, ignore_errors=True)
    (GOLDEN / f"{case}.safetensors").unlink(missing_ok=True)
    folder.mkdir(parents=True)
    return folder


def write(case: str, tensors: dict[str, torch.Tensor], library: str, loader: str, folders: list[str]) -> None:
    oracle = json.dumps(
        {"library": library, "loader": loader, "folders": folders}
    )  # one key: several lie in any order
    kept = {name: tensor.detach().float().contiguous().clone() for name, tensor in tensors.items()}
    if not all(tensor.isfinite().all() for tensor in kept.values()):
        raise ValueError(f"{case}: not finite")
    save_file(kept, GOLDEN / f"{case}.safetensors", metadata={"oracle": oracle})


def settled(case: str, encode: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return `encode(x)`, once it is sure that rounding decides nothing about which features fire."""
    z = encode(x)
    for near in (x * (1 + 1e-4), x * (1 - 1e-4)):
        if not torch.equal(encode(near) != 0, z != 0):
            raise ValueError(f"{case}: a feature is so near its threshold that rounding decides; change the seed")
    if not 0.05 < float((z != 0).float().mean()) < 0.6:
        raise ValueError(f"{case}: {float((z != 0).float().mean()):.2f} of the features fire")
    return z


# ---- SAELens


def metadata(**more) -> SAEMetadata:
    return SAEMetadata(
        **{"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "prepend_bos": True, "context_size": 64}
        | more
    )


TRANSCODER = {"apply_b_dec_to_input": False, "d_out": D_OUT}
HOOK_Z = "blocks.1.attn.hook_z"
SAELENS = {
    "standard": ("standard", {}),
    "no_b_dec": ("standard", {"apply_b_dec_to_input": False}),
    "layer_norm": ("standard", {"normalize_activations": "layer_norm"}),
    "constant_norm": ("standard", {"normalize_activations": "constant_norm_rescale"}),
    "expected_average": ("standard", {"normalize_activations": "expected_average_only_in"}),
    "hook_z": ("standard", {"reshape_activations": "hook_z"}),
    "topk": ("topk", {"k": K}),
    "topk_rescaled": ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    "topk_layer_norm": ("topk", {"k": 10, "normalize_activations": "layer_norm"}),  # rows with fewer above zero
    "abstopk": ("abstopk", {"k": K}),
    "abstopk_rescaled": ("abstopk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    "jumprelu": ("jumprelu", {}),
    "jumprelu_expected_average": ("jumprelu", {"normalize_activations": "expected_average_only_in"}),
    "gated": ("gated", {}),
    "transcoder": ("transcoder", TRANSCODER),
    "skip_transcoder": ("skip_transcoder", TRANSCODER),
    "jumprelu_transcoder": ("jumprelu_transcoder", TRANSCODER),
    "jumprelu_skip_transcoder": ("jumprelu_skip_transcoder", TRANSCODER),
    "matching_pursuit_refused": ("matching_pursuit", {}),
    "temporal_refused": (
        "temporal",
        {"n_heads": 2, "bottleneck_factor": 4, "kval_topk": K, "normalize_activations": "constant_scalar_rescale"},
    ),
}
MATRYOSHKA = {"matryoshka_widths": [8, D_SAE], "rescale_acts_by_decoder_norm": False}
SAELENS_TRAINED = {"batchtopk": ("batchtopk", {}), "matryoshka_batchtopk": ("matryoshka_batchtopk", MATRYOSHKA)}


def saelens_metadata(name: str, architecture: str) -> SAEMetadata:
    if name == "hook_z":
        return metadata(hook_name=HOOK_Z)
    if name == "no_b_dec":  # as SAELens names the hooks of a model that transformers loaded
        return metadata(hook_name="model.layers.1")
    if "transcoder" in architecture:
        return metadata(hook_name="blocks.1.hook_mlp_in", hook_name_out="blocks.1.hook_mlp_out")
    return metadata()


def record_saelens(case: str, folder: str) -> None:
    """Record what SAELens makes of the folder within `case`."""
    sae = SAE.load_from_disk(GOLDEN / case / folder).eval()
    x = inputs(generator(case + "/x"))
    heads = sae.cfg.reshape_activations == "hook_z"

    def encode(x):
        return sae.encode(x.unflatten(-1, HEADS) if heads else x)

    tensors = {"x": x, "z": settled(case, encode, x)}
    encode(x)  # decode takes the norm of the last input that was encoded
    tensors["x_hat"] = sae.decode(tensors["z"])
    if heads:
        tensors["x_hat"] = tensors["x_hat"].flatten(-2)
    if hasattr(sae, "W_skip"):
        tensors["forward"] = sae(x)
    if sae.cfg.normalize_activations == "expected_average_only_in":
        sae.fold_activation_norm_scaling_factor(SCALE)
        tensors |= {"z_scaled": settled(case, encode, x), "scale": torch.tensor(SCALE)}
    write(case, tensors, "sae-lens", "SAE.load_from_disk", [folder])


def make_saelens() -> None:
    for name, (architecture, options) in SAELENS.items():
        case = f"saelens_{name}"
        sae_class, config_class = get_sae_class(architecture)
        about = saelens_metadata(name, architecture)
        sae = sae_class(config_class(d_in=D_IN, d_sae=D_SAE, metadata=about, **options))
        sae.load_state_dict(redraw(sae.state_dict(), generator(case)))
        sae.save_model(fresh(case) / about.hook_name)
        if not name.endswith("_refused"):
            record_saelens(case, about.hook_name)
    for name, (architecture, options) in SAELENS_TRAINED.items():
        case = f"saelens_{name}"
        sae_class, config_class = get_sae_training_class(architecture)
        sae = sae_class(config_class(d_in=D_IN, d_sae=D_SAE, k=K, metadata=metadata(), **options))
        state = redraw(sae.state_dict(), generator(case))
        sae.load_state_dict(state | {"topk_threshold": torch.tensor(0.4, dtype=torch.double)})
        _, config = sae.save_inference_model(fresh(case) / "blocks.1.hook_resid_post")
        config.write_text(json.dumps(json.loads(config.read_text()), sort_keys=True))  # written in the order of a set
        record_saelens(case, "blocks.1.hook_resid_post")


# Configurations from before SAELens 6, flat, under the older names of some of their keys; 6 only reads them.
OLD_COMMON = {
    "model_name": "tiny",
    "d_in": D_IN,
    "d_sae": D_SAE,
    "dtype": "torch.float32",
    "device": "mps",
    "context_size": 64,
    "dataset_path": "tiny-text",
    "expansion_factor": 3,
    "l1_coefficient": 8e-05,
    "seed": 42,
}
OLD = {
    "relu": {
        "hook_point": "blocks.1.hook_resid_pre",
        "hook_point_layer": 1,
        "hook_point_head_index": None,
        "normalize_activations": False,
        "apply_b_dec_to_input": True,
    },
    "topk": {
        "architecture": "standard",
        "hook_name": "blocks.1.hook_resid_post",
        "hook_layer": 1,
        "hook_head_index": None,
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": K},
        "normalize_activations": "layer_norm",
        "apply_b_dec_to_input": False,
        "prepend_bos": False,
        "finetuning_scaling_factor": False,
        "sae_lens_training_version": "3.22.1",
    },
    "normalized": {
        "hook_point": "blocks.1.hook_mlp_out",
        "hook_point_layer": 1,
        "activation_fn_str": "relu",
        "normalize_activations": True,
    },
    "hook_z": {
        "hook_point": HOOK_Z,
        "hook_point_layer": 1,
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
        "normalize_activations": None,
    },
    "jumprelu": {
        "architecture": "jumprelu",
        "hook_name": "blocks.1.hook_resid_post",
        "hook_layer": 1,
        "activation_fn_str": "relu",
        "normalize_activations": "none",
        "sae_lens_training_version": "4.0.0",
    },
}


def make_saelens_old() -> None:
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
    for name, options in OLD.items():
        case = f"saelens_old_{name}"
        gen = generator(case)
        weights = {key: draw(key, shape, gen) for key, shape in shapes.items()}
        if name == "relu":  # written for a while, all ones unless the SAE was fine-tuned
            weights["scaling_factor"] = torch.ones(D_SAE)
        if name == "jumprelu":
            weights["threshold"] = draw("threshold", (D_SAE,), gen)
        folder = options.get("hook_name", options.get("hook_point"))
        path = fresh(case) / folder
        path.mkdir()
        save_file(weights, path / "sae_weights.safetensors")
        (path / "cfg.json").write_text(json.dumps(OLD_COMMON | options))
        record_saelens(case, folder)


# ---- sparsify


def save_sparsify(path: Path, seed: str, **options) -> None:
    sae = SparseCoder(D_IN, SparseCoderConfig(**{"expansion_factor": D_SAE // D_IN, "k": K} | options))
    sae.load_state_dict(redraw(sae.state_dict(), generator(seed)))
    sae.save_to_disk(path)


def sparsify_tensors(case: str, sae: SparseCoder) -> dict[str, torch.Tensor]:
    def encode(x):
        values, indices, _ = sae.encode(x)
        return torch.zeros(len(x), D_SAE).scatter_(1, indices, values)

    x = inputs(generator(case + "/x"))
    values, indices, _ = sae.encode(x)
    tensors = {"x": x, "z": settled(case, encode, x), "x_hat": sae.decode(values, indices)}
    return tensors if sae.W_skip is None else tensors | {"forward": sae(x).sae_out}


def record_sparsify(case: str, folder: str) -> None:
    sae = SparseCoder.load_from_disk(GOLDEN / case / folder)
    write(case, sparsify_tensors(case, sae), "eai-sparsify", "SparseCoder.load_from_disk", [folder])


def record_sparsify_many(case: str, saes: dict[str, SparseCoder], loader: str) -> None:
    tensors = {
        f"{name}/{key}": tensor
        for name, sae in saes.items()
        for key, tensor in sparsify_tensors(f"{case}/{name}", sae).items()
    }
    write(case, tensors, "eai-sparsify", loader, list(saes))


def make_sparsify() -> None:
    one = {
        "topk": ("layers.5", {}),
        "groupmax": ("layers.5", {"activation": "groupmax", "num_latents": D_SAE, "expansion_factor": 32}),
        "transcode": ("layers.5.mlp", {"transcode": True, "normalize_decoder": False}),
        "skip_transcode": ("layers.5.mlp", {"transcode": True, "skip_connection": True}),
    }
    for name, (folder, options) in one.items():
        case = f"sparsify_{name}"
        save_sparsify(fresh(case) / folder, case, **options)
        record_sparsify(case, folder)

    case = "sparsify_many"  # the folder of a training run
    path = fresh(case)
    hookpoints = ["layers.0", "layers.1.mlp"]
    for name in hookpoints:
        save_sparsify(path / name, f"{case}/{name}", k=K if name == "layers.0" else K + 1)
    sae_config = SparseCoderConfig(expansion_factor=D_SAE // D_IN, k=K)
    run = RunConfig(
        sae=sae_config,
        hookpoints=hookpoints,
        model="tiny",
        dataset="tiny-text",
        ctx_len=64,
        data_preprocessing_num_proc=1,
    )
    run.save_json(path / "config.json")
    torch.save({"global_step": 1}, path / "state.pt")
    saes = SparseCoder.load_many(str(path), local=True)
    record_sparsify_many(case, saes, "SparseCoder.load_many")

    case = "sparsify_seeds"  # `init_seeds` of several
    path = fresh(case)
    names = ["layers.5/seed0", "layers.5/seed1"]
    for name in names:
        save_sparsify(path / name, f"{case}/{name}")
    saes = {name: SparseCoder.load_from_disk(path / name) for name in names}
    record_sparsify_many(case, saes, "SparseCoder.load_from_disk")

    case = "sparsify_old"  # one SAE at the root, its configuration from before `activation` and `num_latents`
    path = fresh(case)
    save_sparsify(path, case)
    config = {"expansion_factor": D_SAE // D_IN, "normalize_decoder": True, "k": K, "signed": False, "d_in": D_IN}
    (path / "cfg.json").write_text(json.dumps(config))
    record_sparsify(case, "")


# ---- dictionary_learning

GROUPS = {"group_fractions": [0.25, 0.25, 0.5]}
SCHEDULE = {"warmup_steps": 1, "sparsity_warmup_steps": 1}
DICTIONARIES = {
    "AutoEncoder": (StandardTrainer, SCHEDULE),
    "AutoEncoderNew": (StandardTrainer, SCHEDULE),
    "GatedAutoEncoder": (GatedSAETrainer, SCHEDULE),
    "JumpReluAutoEncoder": (JumpReluTrainer, SCHEDULE),
    "AutoEncoderTopK": (TopKTrainer, {"warmup_steps": 1, "k": K}),
    "BatchTopKSAE": (BatchTopKTrainer, {"warmup_steps": 1, "k": K}),
    "MatryoshkaBatchTopKSAE": (MatryoshkaBatchTopKTrainer, {"warmup_steps": 1, "k": K} | GROUPS),
}


class Buffer(list):
    """The activations to train on, with what `trainSAE` notes of them."""

    config = {  # noqa: RUF012
        "d_submodule": D_IN,
        "io": "out",
        "n_ctxs": 4,
        "ctx_len": 64,
        "refresh_batch_size": 4,
        "out_batch_size": ROWS,
        "device": "cpu",
    }


def make_dictionary(case: str, dict_class: str) -> Path:
    """Let `trainSAE` write a trainer's folder without a step taken, then draw the weights in it anew."""
    trainer, options = DICTIONARIES[dict_class]
    options = options | {
        "trainer": trainer,
        "steps": 10,
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "layer": 3,
        "lm_name": "tiny",
        "submodule_name": "resid_post_layer_3",
        "device": "cpu",
        "seed": 0,
    }
    if dict_class == "AutoEncoderNew":
        options["dict_class"] = AutoEncoderNew
    path = fresh(case) / "resid_post_layer_3"
    data = Buffer([torch.zeros(ROWS, D_IN)])
    trainSAE(data, [options], steps=0, save_dir=str(path), device="cpu")
    path = path / "trainer_0"
    state = torch.load(path / "ae.pt", weights_only=True)
    gen = generator(case)
    redrawn = redraw(state, gen)
    torch.save({name: redrawn[name] for name in state}, path / "ae.pt")
    config = json.loads((path / "config.json").read_text())
    if dict_class == "AutoEncoderNew":  # its trainer wrote the class down and has since been renamed
        config["trainer"] |= {"dict_class": "AutoEncoderNew", "trainer_class": "StandardTrainerNew"}
        (path / "config.json").write_text(json.dumps(config, indent=4))
    if config["trainer"]["dict_class"] != dict_class:
        raise ValueError(f"{case}: {config['trainer']['dict_class']}")
    return path


def make_dictionaries() -> None:
    for dict_class in DICTIONARIES:
        case = f"dictionary_learning_{dict_class}"
        path = make_dictionary(case, dict_class)
        sae, _ = load_dictionary(str(path), "cpu")
        x = inputs(generator(case + "/x"))
        z = settled(case, sae.encode, x)
        tensors = {"x": x, "z": z, "x_hat": sae.decode(z)}
        if dict_class == "AutoEncoder":
            stored = AutoEncoder.from_pretrained(path / "ae.pt", normalize_decoder=False)
            tensors["z_stored"] = stored.encode(x)
        folder = str(path.relative_to(GOLDEN / case))
        write(case, tensors, "dictionary-learning", "load_dictionary", [folder])


def check() -> None:
    """Read everything back once more, and see that nothing of this machine went in."""
    here = str(Path(__file__).resolve().parents[3])
    for file in GOLDEN.rglob("*"):
        if file.suffix == ".safetensors":
            load_file(file)
        if file.is_file() and (here.encode() in file.read_bytes() or b"://" in file.read_bytes()):
            raise ValueError(f"{file}: names a place")


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    make_saelens()
    make_saelens_old()
    make_sparsify()
    make_dictionaries()
    names = ["torch", "safetensors", "sae-lens", "eai-sparsify", "dictionary-learning"]
    # torch's local label ("+cpu") is left out
    versions = {name: version(name).split("+")[0] for name in names}
    (GOLDEN / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")
    check()


if __name__ == "__main__":
    main()

"""Conditioners of texts: bytes, T5, tokens and phonemes, all without a download."""

import sys
import types

import pytest
import torch
from audio_core import bundle
from audio_core.testing import check_bundle, check_gradients, close, refused
from audio_gen.config.conditioners import BytesConfig, ConditioningConfig, LUTConfig, PhonemeConfig, T5Config
from audio_gen.models.conditioners import pretrained, stored
from audio_gen.models.conditioners.multi import MultiConditioner
from audio_gen.models.conditioners.t5 import T5Conditioner
from audio_gen.models.conditioners.texts import PHONEMES, BytesConditioner, LUTConditioner, PhonemeConditioner
from torch import nn

TEXTS = ["a slow drum loop", "a fast piano", "warm pads and a slow piano"]


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory):
    """A folder with a T5 encoder of 32 channels and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    transformers, folder = pretrained.library(), str(tmp_path_factory.mktemp("t5"))
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=["<pad>", "</s>", "<unk>"]))
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"vocab_size": 200, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    transformers.T5EncoderModel(transformers.T5Config(**sizes)).save_pretrained(folder)
    return folder


# --- bytes -----------------------------------------------------------------------------------------------------


def by_bytes(**settings):
    return BytesConditioner(BytesConfig(**{"dim": 8, "num_heads": 2, "max_length": 12} | settings), 6).eval()


@torch.no_grad()
def test_bytes_of_a_text_and_its_end_become_tokens():
    tokens, mask = by_bytes()(["abc", "", "ü", "a very long text"])
    assert tokens.shape == (4, 12, 6)
    assert mask.sum(1).tolist() == [4, 1, 3, 12]
    assert (tokens[~mask] == 0).all() and (tokens[mask].abs().amax(-1) > 0).all()


@torch.no_grad()
def test_a_text_gives_the_same_beside_any_other():
    conditioner = by_bytes()
    alone, together = conditioner(["abc"]).value, conditioner(["abc", "a longer one"]).value
    close(together[:1], alone)


@torch.no_grad()
def test_order_and_every_byte_count():
    values = by_bytes()(["ab", "ba", "ac", "ab "]).value
    for one in range(4):
        for other in range(one):
            assert not torch.allclose(values[one], values[other], atol=1e-3)


def test_the_encoder_of_bytes_learns():
    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = by_bytes(max_length=4)
            self.inner.embedder.weight.requires_grad_(False)  # only the rows of these bytes would learn

        def forward(self, texts):
            return self.inner(texts).value

    check_gradients(Alone(), ["abc", "d"])


def test_a_byte_that_no_text_has_is_replaced():
    assert by_bytes()(["\ud800"]).mask.sum() == 2


# --- T5 --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_t5_gives_the_encoder_s_last_hidden_states(tiny_t5):
    """Projected, and zero behind the end of a text."""
    conditioner = T5Conditioner(T5Config(t5_model_name=tiny_t5, max_length=6), 5)
    tokens, mask = conditioner(["a slow piano", "drum", "a fast drum loop and warm pads"])
    assert tokens.shape == (3, 6, 5)
    assert mask.sum(1).tolist() == [4, 2, 6]
    assert (tokens[~mask] == 0).all()
    library = pretrained.library()
    ids = library.AutoTokenizer.from_pretrained(tiny_t5)(["a slow piano"], return_tensors="pt")["input_ids"]
    hidden = library.T5EncoderModel.from_pretrained(tiny_t5)(input_ids=ids).last_hidden_state
    close(tokens[:1, :4], conditioner.proj_out(hidden))
    assert (
        conditioner.limit("drum") == "" and conditioner.limit("a fast drum loop and warm pads") == "the first 6 tokens"
    )


def test_t5_is_projected_only_where_widths_differ(tiny_t5):
    assert not T5Conditioner(T5Config(t5_model_name=tiny_t5), 32).state_dict()
    always = T5Conditioner(T5Config(t5_model_name=tiny_t5, project_out=True), 32)
    assert always.state_dict().keys() == {"proj_out.weight", "proj_out.bias"}


def test_a_frozen_t5_neither_learns_nor_is_stored(tiny_t5):
    """The original meant to encode without gradients, and wrote so that only autocast remained."""
    conditioner = T5Conditioner(T5Config(t5_model_name=tiny_t5, max_length=4), 32)
    assert not conditioner(["a drum"]).value.requires_grad
    assert not any(parameter.requires_grad for parameter in conditioner.model.parameters())
    assert not conditioner.state_dict() and not [*conditioner.parameters()]
    assert not conditioner.train().model.training


def test_a_t5_that_learns_is_stored_with_the_model(tiny_t5, tmp_path):
    config = T5Config(t5_model_name=tiny_t5, max_length=4, enable_grad=True)
    conditioner = T5Conditioner(config, 32)
    names = {name for name in conditioner.state_dict() if name.startswith("model.")}
    assert names and conditioner(["a drum"]).value.requires_grad
    with torch.no_grad():
        conditioner.model.shared.weight.add_(1)
    model = MultiConditioner(ConditioningConfig(cond_dim=32, conditioners={"prompt": config}))
    model.conditioners["prompt"].load_state_dict(conditioner.state_dict())
    bundle.save(model, tmp_path, "audio-test", "0.0.0", "# A test")
    loaded = bundle.load(tmp_path, [MultiConditioner])
    assert loaded.config == model.config
    item = [{"prompt": "a drum"}]
    assert torch.equal(loaded(item)["prompt"].value, conditioner(["a drum"]).value)


def test_widths_of_known_encoders_need_no_library(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "library", lambda: pytest.fail("the library was imported"))
    assert T5Conditioner(T5Config(), 768).width == 768
    assert pretrained.t5_width("google/flan-t5-xl") == 2048
    (tmp_path / "config.json").write_text('{"d_model": 48}')
    assert pretrained.t5_width(str(tmp_path)) == 48
    (tmp_path / "config.json").write_text('{"hidden_size": 48}')
    assert "states no d_model" in refused(pretrained.t5_width, str(tmp_path))


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"d_model": 8, "model_type": "t5"}')
    conditioner = T5Conditioner(T5Config(t5_model_name=str(tmp_path)), 8)
    assert f"{tmp_path}: cannot be loaded" in refused(conditioner, ["a"])


def test_the_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert 'pip install "audio-gen[text]"' in refused(pretrained.library.__wrapped__)


@torch.no_grad()
def test_features_of_texts_are_stored_and_taken_in_place_of_texts(tiny_t5, tmp_path):
    config = T5Config(t5_model_name=tiny_t5, max_length=6)
    conditioner = T5Conditioner(config, 5)
    texts = ["a slow piano", "drum"]
    stored.save(tmp_path / "texts.safetensors", dict(zip(texts, conditioner.encode(texts), strict=True)))
    features = stored.load(tmp_path / "texts.safetensors")
    assert [len(features[text].values) for text in texts] == [4, 2]
    wanted, mask = conditioner(texts)
    value, same_mask = conditioner([texts[0], features["drum"]])
    close(value, wanted)
    assert torch.equal(mask, same_mask)
    assert "expected at most 6 features" in refused(conditioner.read, torch.randn(7, 32))


# --- tokens and phonemes ---------------------------------------------------------------------------------------


@torch.no_grad()
def test_tokens_have_vectors_of_their_own(tiny_t5):
    """What fills a text up is zero, and gets a position all the same, as in the original."""
    size = len(pretrained.tokenizer(tiny_t5))
    config = LUTConfig(tokenizer_name=tiny_t5, vocab_size=size + 1, max_length=5, special_tokens=("<drums>",))
    conditioner = LUTConditioner(config, 4)
    tokens, mask = conditioner(["a <drums> loop", "a"])
    assert mask.tolist() == [[True] * 4 + [False], [True, True, False, False, False]]
    rows = conditioner.token_embedder.weight
    ids = pretrained.tokenizer(tiny_t5)(["a loop"])["input_ids"][0]
    assert torch.equal(tokens[0, :4], rows[[ids[0], size, ids[1], 1]])
    assert (tokens[~mask] == 0).all()
    assert [conditioner.limit(text) for text in ("a loop a", "a loop a loop a")] == ["", "the first 5 tokens"]
    placed = LUTConditioner(LUTConfig(tokenizer_name=tiny_t5, vocab_size=size, max_length=5, use_abs_pos_emb=True), 4)
    tokens, mask = placed(["a"])
    close(tokens[0, 2:], placed.abs_pos_emb.emb.weight[2:] / 2)
    assert set(placed.state_dict()) == {"token_embedder.weight", "abs_pos_emb.emb.weight"}


def test_a_tokenizer_of_another_size_is_refused(tiny_t5):
    conditioner = LUTConditioner(LUTConfig(tokenizer_name=tiny_t5, vocab_size=3), 4)
    assert "and vocab_size is 3" in refused(conditioner, ["a"])


@torch.no_grad()
def test_phonemes_have_vectors_of_their_own(monkeypatch):
    """Behind them and between words there are further ones."""
    fake = types.ModuleType("g2p_en")
    fake.G2p = lambda: {"hey": ["HH", "EY1"], "hey, hi": ["HH", "EY1", " ", ",", " ", "HH", "AY1"], "": []}.get
    monkeypatch.setitem(sys.modules, "g2p_en", fake)
    conditioner = PhonemeConditioner(PhonemeConfig(max_length=6), 4)
    assert conditioner.phoneme_embedder.weight.shape == (76, 4)
    tokens, mask = conditioner(["hey", "hey, hi", ""])
    hey, ey = (PHONEMES.index(phoneme) + 2 for phoneme in ("HH", "EY1"))
    rows = torch.tensor([[hey, ey, 0, 0, 0, 0], [hey, ey, 1, 1, 1, hey], [0] * 6])
    assert torch.equal(tokens, conditioner.phoneme_embedder.weight[rows])
    assert torch.equal(mask, rows != 0)
    assert [conditioner.limit(text) for text in ("hey", "hey, hi")] == ["", "the first 6 phonemes"]


def test_the_missing_library_of_phonemes_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "g2p_en", None)
    assert 'pip install "audio-gen[phonemes]"' in refused(PhonemeConditioner(PhonemeConfig(), 4), ["a"])


# --- all -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 3, b"a", {}])
def test_what_is_no_text_is_refused(value):
    assert "expected a text" in refused(by_bytes().read, value)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (BytesConfig, {"dim": 7}, "dim must be a multiple of num_heads"),
        (BytesConfig, {"max_length": 0}, "max_length must be at least 1"),
        (T5Config, {"max_length": 2**21}, "max_length must be at most"),
        (LUTConfig, {"tokenizer_name": "x", "vocab_size": 0}, "vocab_size must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_a_bundle_keeps_bytes_and_phonemes(tmp_path):
    conditioners = {"prompt": BytesConfig(dim=8, num_heads=2), "lyrics": PhonemeConfig()}
    check_bundle(MultiConditioner(ConditioningConfig(cond_dim=6, conditioners=conditioners)), tmp_path)

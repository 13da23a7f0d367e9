"""Every backbone of keras-hub whose constructor needs no download, as small as it goes."""

from collections.abc import Callable
from typing import Any

import keras

# Arguments that many backbones have in common.
_TEXT = {"vocabulary_size": 10, "num_layers": 1, "hidden_dim": 8, "intermediate_dim": 12}
_HEADS = {"num_heads": 2}
_LENGTH = {"max_sequence_length": 8}
_GROUPED = {"num_query_heads": 2, "num_key_value_heads": 1}
_EXPERTS = {"num_experts": 2, "top_k": 1}
_IMAGE = {"image_shape": (32, 32, 3)}
_PATCHES = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
_PATCHES |= {"patch_size": 8, "image_shape": (16, 16, 3)}
_TOWER = _TEXT | _HEADS | _LENGTH | {"embedding_dim": 8}
_LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
_LINEAR |= {"linear_key_head_dim": 4, "linear_value_head_dim": 4, "linear_conv_kernel_dim": 2}
_LINEAR |= {"layer_types": ["linear_attention", "full_attention"]}
_TWO_STACKS = {
    "vocabulary_size": 10,
    **{
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "hidden_dim": 8,
            "intermediate_dim": 12,
            "num_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 4,
            "layer_types": ["full_attention"],
        }.items()
    },
}
_RESNET = {
    "input_conv_filters": [64],  # keras-hub asks for the 64
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 8, 8, 8],
    "stackwise_num_blocks": [1, 1, 1, 1],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
    **_IMAGE,
}

Maker = Callable[[Any], keras.Model]
BACKBONES: dict[str, dict | Maker] = {
    "AlbertBackbone": _TOWER | {"embedding_dim": 4},
    "BartBackbone": _TEXT | _HEADS | _LENGTH,
    "BertBackbone": _TEXT | _HEADS | _LENGTH,
    "BLIP2Backbone": lambda hub: hub.BLIP2Backbone(
        vision_encoder=hub.BLIP2VisionEncoder(
            **{name: value for name, value in _PATCHES.items() if name != "image_shape"},
            image_size=16,
            use_patch_bias=True,
            use_class_token=True,
            use_mha_bias=True,
            use_mlp_bias=True,
            dropout_rate=0.0,
            layer_norm_epsilon=1e-6,
            initializer_range=0.02,
        ),
        qformer=hub.BLIP2QFormer(
            num_query_tokens=2,
            num_layers=1,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=12,
            vision_dim=8,
            cross_attention_frequency=1,
            dropout=0.0,
            layer_norm_epsilon=1e-6,
        ),
        language_model=hub.BLIP2CustomOPT(
            **_TEXT,
            **_HEADS,
            max_sequence_length=16,
            dropout=0.0,
            num_query_tokens=2,
            qformer_hidden_dim=8,
        ),
    ),
    "BloomBackbone": _TEXT | _HEADS | _LENGTH,
    "CLIPBackbone": lambda hub: hub.CLIPBackbone(
        hub.CLIPVisionEncoder(**_PATCHES), hub.CLIPTextEncoder(**_TOWER), projection_dim=4
    ),
    "CLIPTextEncoder": _TOWER,
    "CLIPVisionEncoder": _PATCHES,
    "CSPNetBackbone": {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 2,
        "stackwise_depth": [1, 1],
        "stackwise_strides": [1, 2],
        "stackwise_num_filters": [8, 16],
        "block_type": "dark_block",
        "stage_type": "dark",
        **_IMAGE,
    },
    "DebertaV3Backbone": _TEXT | _HEADS | _LENGTH | {"bucket_size": 2},
    "DeepLabV3Backbone": lambda hub: hub.DeepLabV3Backbone(
        image_encoder=hub.ResNetBackbone(**_RESNET),
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        upsampling_size=4,
        dilation_rates=[1, 2],
        projection_filters=4,
        **_IMAGE,
    ),
    "DeiTBackbone": _PATCHES,
    "DenseNetBackbone": _IMAGE | {"stackwise_num_repeats": [1, 1, 1], "growth_rate": 4},
    "DepthAnythingBackbone": lambda hub: hub.DepthAnythingBackbone(
        image_encoder=hub.DINOV2Backbone(
            **_PATCHES | {"num_layers": 4, "image_shape": (64, 64, 3)}, apply_layernorm=True
        ),
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[4, 4, 4, 4],
        fusion_hidden_dim=8,
        head_hidden_dim=4,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    ),
    "DINOV2Backbone": _PATCHES | {"position_embedding_shape": (16, 16, 3)},
    "DINOV3Backbone": _PATCHES,
    "DistilBertBackbone": _TEXT | _HEADS | _LENGTH,
    "EdRecBackbone": {
        "vocab_size": 10,
        "num_layers_enc": 1,
        "num_layers_dec": 1,
        "hidden_dim": 8,
        "intermediate_dim": 12,
        "num_heads": 2,
    },
    "EfficientNetBackbone": {
        "stackwise_width_coefficients": [1.0, 1.0],
        "stackwise_depth_coefficients": [1.0, 1.0],
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [1, 1],
        "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 8],
        "stackwise_expansion_ratios": [2, 2],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
        "stackwise_strides": [1, 2],
        "stackwise_block_types": ["v1", "fused"],
        "stackwise_force_input_filters": [0, 0],
        "stackwise_nores_option": [False, False],
        "input_shape": (32, 32, 3),
    },
    "ElectraBackbone": {
        **{name: value for name, value in _TOWER.items() if name != "vocabulary_size"},
        "vocab_size": 10,
    },
    "ESMBackbone": _TEXT | _HEADS,
    "FalconBackbone": _TEXT | {"num_attention_heads": 2},
    "FluxBackbone": {
        "input_channels": 4,
        "hidden_size": 8,
        "mlp_ratio": 2.0,
        "num_heads": 2,
        "depth": 1,
        "depth_single_blocks": 1,
        "axes_dim": [2, 2],
        "theta": 10_000,
        "use_bias": True,
        "image_shape": (4, 4),
        "text_shape": (3, 8),
        "image_ids_shape": (4, 2),
        "text_ids_shape": (3, 2),
        "y_shape": (8,),
    },
    "FNetBackbone": _TEXT | _LENGTH,
    "GemmaBackbone": _TEXT | _GROUPED | {"head_dim": 4},
    "Gemma3Backbone": _TEXT | _GROUPED | {"head_dim": 4, "image_size": 16},
    "Gemma3nBackbone": {
        "text_vocab_size": 10,
        "text_hidden_size": 8,
        "num_hidden_layers": 1,
        "pad_token_id": 0,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "intermediate_size": [12],
        "hidden_activation": "gelu_approximate",
        "layer_types": ["full_attention"],
        "sliding_window": 4,
        "rope_theta": 10_000.0,
        "max_position_embeddings": 16,
        "vocab_size_per_layer_input": 10,
        "hidden_size_per_layer_input": 2,
        "altup_num_inputs": 2,
        "laurel_rank": 1,
    },
    "Gemma4Backbone": _TEXT | _GROUPED | {"head_dim": 4, "image_size": 16},
    "GPT2Backbone": _TEXT | _HEADS | _LENGTH,
    "GPTNeoXBackbone": _TEXT | _HEADS | _LENGTH | {"rotary_percentage": 1.0},
    "GptOssBackbone": _TEXT | _GROUPED | _EXPERTS | {"head_dim": 4},
    "HGNetV2Backbone": {
        "depths": [1, 1],
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "stem_channels": [3, 8, 8],
        "hidden_act": "relu",
        "use_learnable_affine_block": False,
        "stackwise_stage_filters": [[8, 4, 8, 1, 1, 3], [8, 4, 16, 1, 1, 3]],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, True],
        **_IMAGE,
    },
    "LlamaBackbone": _TEXT | _GROUPED,
    "Llama3Backbone": _TEXT | _GROUPED,
    "MetaCLIP2Backbone": lambda hub: hub.MetaCLIP2Backbone(
        hub.MetaCLIP2VisionEncoder(**_PATCHES),
        hub.MetaCLIP2TextEncoder(**_TOWER),
        projection_dim=4,
    ),
    "MetaCLIP2TextEncoder": _TOWER,
    "MetaCLIP2VisionEncoder": _PATCHES,
    "MistralBackbone": _TEXT | _GROUPED | {"sliding_window": 3},
    "MiTBackbone": {
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [4, 8],
        **_IMAGE,
    },
    "MixtralBackbone": _TEXT | _GROUPED | _EXPERTS,
    "MobileNetBackbone": {
        "stackwise_expansion": [[8], [16, 16]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [8, 8]],
        "stackwise_kernel_size": [[3], [3, 3]],
        "stackwise_num_strides": [[2], [2, 1]],
        "stackwise_se_ratio": [[0.25], [None, 0.25]],
        "stackwise_activation": [["relu"], ["relu", "hard_swish"]],
        "stackwise_padding": [[1], [1, 1]],
        "output_num_filters": 8,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "last_layer_filter": 8,
        "squeeze_and_excite": 0.5,
        **_IMAGE,
    },
    "MobileNetV5Backbone": {
        "stackwise_block_types": [["er"], ["uir", "mqa"]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [8, 8]],
        "stackwise_strides": [[2], [2, 1]],
        "stackwise_act_layers": [["relu"], ["relu", "relu"]],
        "stackwise_exp_ratios": [[2.0], [2.0, 2.0]],
        "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
        "stackwise_dw_kernel_sizes": [[0], [5, 3]],
        "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
        "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
        "stackwise_exp_kernel_sizes": [[3], [0, 0]],
        "stackwise_pw_kernel_sizes": [[1], [0, 0]],
        "stackwise_num_heads": [[0], [0, 2]],
        "stackwise_key_dims": [[0], [0, 4]],
        "stackwise_value_dims": [[0], [0, 4]],
        "stackwise_kv_strides": [[0], [0, 1]],
        "stackwise_use_cpe": [[False], [False, False]],
        "stem_size": 8,
        "use_msfa": False,
        **_IMAGE,
    },
    "MoonshineBackbone": {
        "vocabulary_size": 10,
        "filter_dim": 8,
        "encoder_num_layers": 1,
        "decoder_num_layers": 1,
        "hidden_dim": 8,
        "intermediate_dim": 12,
        "encoder_num_heads": 2,
        "decoder_num_heads": 2,
    },
    "OPTBackbone": _TEXT | _HEADS | _LENGTH,
    "PaliGemmaBackbone": {
        **_TEXT,
        **_GROUPED,
        "head_dim": 4,
        "image_size": 16,
        "vit_patch_size": 8,
        "vit_num_heads": 2,
        "vit_hidden_dim": 8,
        "vit_num_layers": 1,
        "vit_intermediate_dim": 12,
    },
    "PARSeqBackbone": lambda hub: hub.PARSeqBackbone(
        image_encoder=hub.ViTBackbone(
            image_shape=(16, 16, 3),
            patch_size=8,
            num_layers=1,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=12,
            use_class_token=False,
        ),
        vocabulary_size=10,
        max_label_length=12,
        decoder_hidden_dim=8,
        num_decoder_layers=1,
        num_decoder_heads=2,
        decoder_mlp_dim=12,
    ),
    "Phi3Backbone": _TEXT | _GROUPED,
    "QwenBackbone": _TEXT | _GROUPED,
    "Qwen3Backbone": _TEXT | _GROUPED | {"head_dim": 4},
    "Qwen3MoeBackbone": _TEXT | _GROUPED | _EXPERTS | {"moe_intermediate_dim": 4, "head_dim": 4},
    "Qwen3_5Backbone": _TEXT | _GROUPED | _LINEAR | {"num_layers": 2, "head_dim": 8},
    "Qwen3_5MoeBackbone": {
        **{name: value for name, value in _TEXT.items() if name != "intermediate_dim"},
        **_GROUPED,
        **_LINEAR,
        **_EXPERTS,
        "num_layers": 2,
        "head_dim": 8,
        "moe_intermediate_dim": 4,
        "shared_expert_intermediate_size": 4,
    },
    "QwenMoeBackbone": {
        **_TEXT,
        **_GROUPED,
        **_EXPERTS,
        "moe_intermediate_dim": 4,
        "shared_expert_intermediate_dim": 4,
    },
    "ResNetBackbone": _RESNET,
    "RetinaNetBackbone": lambda hub: hub.RetinaNetBackbone(
        image_encoder=hub.ResNetBackbone(**_RESNET),
        min_level=3,
        max_level=5,
        use_p5=False,
        **_IMAGE,
    ),
    "RobertaBackbone": _TEXT | _HEADS | _LENGTH,
    "RoformerV2Backbone": _TEXT | _HEADS | {"head_size": 4, "max_wavelength": 100},
    "RWKV7Backbone": {
        "vocabulary_size": 10,
        "num_layers": 1,
        "hidden_size": 8,
        "head_size": 4,
        "intermediate_dim": 12,
        "gate_lora": 4,
        "mv_lora": 4,
        "aaa_lora": 4,
        "decay_lora": 4,
    },
    "SAMBackbone": lambda hub: _segment_anything(),
    "SAM3PromptableConceptBackbone": lambda hub: _segment_anything_3(),
    "SegFormerBackbone": lambda hub: hub.SegFormerBackbone(
        image_encoder=hub.MiTBackbone(**BACKBONES["MiTBackbone"]), projection_filters=4
    ),
    "SigLIPBackbone": lambda hub: hub.SigLIPBackbone(
        hub.SigLIPVisionEncoder(**_PATCHES),
        hub.SigLIPTextEncoder(**_TOWER, projection_dim=8),
    ),
    "SigLIPTextEncoder": _TOWER,
    "SigLIPVisionEncoder": _PATCHES,
    "SmolLM3Backbone": {
        **_TEXT,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_layer_enabled_list": [True],
        "layer_types": ["full_attention"],
        "mlp_bias": False,
        "layer_norm_epsilon": 1e-6,
        "max_position_embeddings": 16,
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 1.0,
    },
    "StableDiffusion3Backbone": lambda hub: hub.StableDiffusion3Backbone(
        mmdit_patch_size=2,
        mmdit_hidden_dim=8,
        mmdit_num_layers=1,
        mmdit_num_heads=2,
        mmdit_position_size=8,
        mmdit_qk_norm=None,
        mmdit_dual_attention_indices=None,
        vae=_autoencoder(),
        clip_l=hub.CLIPTextEncoder(**_TOWER, intermediate_output_index=0, name="clip_l"),
        clip_g=hub.CLIPTextEncoder(**_TOWER, intermediate_output_index=0, name="clip_g"),
        latent_channels=4,
        image_shape=(32, 32, 3),
    ),
    "SwinTransformerBackbone": {
        "image_shape": (32, 32, 3),
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [1, 2],
        "window_size": 2,
        "patch_size": 4,
    },
    "T5Backbone": _TEXT | _HEADS,
    "T5GemmaBackbone": _TWO_STACKS,
    "T5Gemma2Backbone": _TWO_STACKS,
    "VGGBackbone": _IMAGE | {"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [4, 8]},
    "VideoPrismBackbone": {
        "num_frames": 2,
        "patch_size": 8,
        "hidden_dim": 8,
        "intermediate_dim": 12,
        "num_heads": 2,
        "num_spatial_layers": 1,
        "num_temporal_layers": 1,
        "num_auxiliary_layers": 1,
        "image_shape": (16, 16, 3),
    },
    "ViTBackbone": {
        **{name: value for name, value in _PATCHES.items() if name != "intermediate_dim"},
        "mlp_dim": 12,
    },
    "ViTDetBackbone": {
        "hidden_size": 8,
        "num_layers": 2,
        "intermediate_dim": 12,
        "num_heads": 2,
        "global_attention_layer_indices": [1],
        "num_output_channels": 4,
        "window_size": 2,
        "image_shape": (64, 64, 3),
    },
    "WhisperBackbone": {
        **_TEXT,
        **_HEADS,
        "num_mels": 4,
        "max_encoder_sequence_length": 8,
        "max_decoder_sequence_length": 8,
    },
    "XceptionBackbone": {
        "stackwise_conv_filters": [[8, 8], [8, 16]],
        "stackwise_pooling": [True, False],
        **_IMAGE,
    },
    "XLMRobertaBackbone": _TEXT | _HEADS | _LENGTH,
    "XLNetBackbone": _TEXT | _HEADS,
    "DFineBackbone": lambda hub: hub.DFineBackbone(
        backbone=hub.HGNetV2Backbone(
            **BACKBONES["HGNetV2Backbone"], out_features=["stage1", "stage2"]
        ),
        decoder_in_channels=[8, 8],
        encoder_hidden_dim=8,
        num_denoising=0,
        num_labels=3,
        hidden_dim=8,
        learn_initial_query=False,
        num_queries=5,
        anchor_image_size=(32, 32),
        feat_strides=[4, 8],
        num_feature_levels=2,
        encoder_in_channels=[8, 16],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=12,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=12,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=4,
        num_lqe_layers=2,
        out_features=["stage1", "stage2"],
        seed=0,
        **_IMAGE,
    ),
}
"""Name in `keras_hub.models` -> arguments of the constructor, or what makes it."""

LEFT_OUT = {"BASNetBackbone": "keras-hub fixes its widths: some 100 million weights"}
STEPS = {"MoonshineBackbone": 1000}
"""Backbone -> length of sequences, where 8 is too short."""


def _segment_anything() -> keras.Model:
    import keras_hub

    side = 32
    return keras_hub.models.SAMBackbone(
        image_encoder=keras_hub.models.ViTDetBackbone(
            **BACKBONES["ViTDetBackbone"]
            | {"image_shape": (side, side, 3), "num_output_channels": 8}
        ),
        prompt_encoder=keras_hub.layers.SAMPromptEncoder(
            hidden_size=8,
            image_embedding_size=(side // 16, side // 16),
            input_image_size=(side, side),
            mask_in_channels=4,
        ),
        mask_decoder=keras_hub.layers.SAMMaskDecoder(
            num_layers=1,
            hidden_size=8,
            intermediate_dim=12,
            num_heads=2,
            embedding_dim=8,
            num_multimask_outputs=3,
            iou_head_depth=2,
            iou_head_hidden_dim=8,
        ),
    )


def _segment_anything_3() -> keras.Model:
    import keras_hub

    sizes = {"hidden_dim": 8, "num_heads": 2}
    inner = sizes | {"num_layers": 1, "intermediate_dim": 12}
    image = {"image_shape": (28, 28, 3), "patch_size": 14}
    layers = keras_hub.layers
    return keras_hub.models.SAM3PromptableConceptBackbone(
        vision_encoder=layers.SAM3VisionEncoder(
            **inner,
            **image,
            fpn_hidden_dim=8,
            fpn_scale_factors=[4.0, 2.0, 1.0, 0.5],
            pretrain_image_shape=(28, 28, 3),
            window_size=2,
            global_attn_indexes=[0],
        ),
        text_encoder=layers.SAM3TextEncoder(vocabulary_size=10, embedding_dim=8, **inner),
        geometry_encoder=layers.SAM3GeometryEncoder(**inner, roi_size=3),
        detr_encoder=layers.SAM3DetrEncoder(**inner),
        detr_decoder=layers.SAM3DetrDecoder(**inner, **image, num_queries=3),
        mask_decoder=layers.SAM3MaskDecoder(**sizes, num_upsampling_stages=3),
    )


def _autoencoder() -> keras.Model:
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone  # it has no public name

    return VAEBackbone(
        encoder_num_filters=[32, 32],
        encoder_num_blocks=[1, 1],
        decoder_num_filters=[32, 32],
        decoder_num_blocks=[1, 1],
        sample_channels=8,
        sampler_method="mode",  # Samples would differ from call to call.
    )


def backbone(name: str) -> keras.Model:
    """A backbone of drawn weights."""
    import keras_hub

    made = BACKBONES[name]
    if callable(made):
        return made(keras_hub.models)
    return getattr(keras_hub.models, name)(**made)

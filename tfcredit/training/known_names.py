"""Names that --help lists, which is asked for without TensorFlow and so can't look them up."""

NAMES = {
    "rule": """
        activation_alignment akrout_mirror alignment autoencoder_alignment backprop brsf
        calibrated_activation calibrated_mirror direct_feedback_alignment direct_kolen_pollack drtp
        feedback_alignment frozen frozen_backprop frsf info_alignment kolen_pollack l_drl
        low_dimensional_feedback low_rank_feedback node_perturbation normalized_feedback_alignment
        phase_free_mirror product_feedback_alignment sign_symmetry soft_alignment
        symmetric_alignment tracking_activation tracking_mirror usf weight_mirror
    """.split(),
    "model": """
        conv fc resnet101 resnet101v2 resnet152 resnet152v2 resnet18 resnet18v2 resnet20 resnet200
        resnet200v2 resnet32 resnet34 resnet34v2 resnet50 resnet50v2 resnet56 resnet8
    """.split(),
    "optimizer": """
        adadelta adafactor adagrad adam adamax adamw ftrl lamb lars lion momentum muon nadam
        radam rmsprop schedulefreeadamw sgd
    """.split(),
}
"""Flag -> the names that it takes."""

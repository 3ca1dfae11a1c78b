"""Scores made to be awkward: ties of every kind, infinities, subnormals, constant columns, one or
no positive.
"""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

FEW = st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 0.25, 0.5, 1.0, math.inf])


@st.composite
def problems(draw, max_samples=40, max_classes=5):
    """Draw (scores [N, K] float16, float32 or float64, labels bool, known bool)."""
    shape = draw(st.tuples(st.integers(1, max_samples), st.integers(1, max_classes)))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    any_float = st.floats(allow_nan=False, width=np.dtype(dtype).itemsize * 8)
    scores = draw(hnp.arrays(dtype, shape, elements=draw(st.sampled_from([FEW, any_float]))))
    flags = hnp.arrays(bool, shape, elements=st.booleans())
    return scores, draw(flags), draw(flags)


def dense(scores):
    """Whole numbers in the same order, ties kept: scikit-learn refuses infinities."""
    return np.unique(scores, return_inverse=True)[1].reshape(scores.shape)


def columns(*matrices):
    """The columns of several matrices side by side, one tuple per class."""
    return zip(*(matrix.T for matrix in matrices), strict=True)

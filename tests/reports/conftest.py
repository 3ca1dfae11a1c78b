"""What the tests of other rooms have already made."""

from tests.train.conftest import digits as digits

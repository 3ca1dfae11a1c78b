"""A batch crosses to a pretended device whole, by one copy, and a loader's state is that of its
consumer meanwhile.
"""

import pytest

pytestmark = pytest.mark.slow

FIRST_BAD = 4


@pytest.fixture(scope="module")
def found(pretended, packed, tmp_path_factory) -> dict:
    return pretended("tests.pretend.crossing", packed, tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize("way", ["by_hand", "by_name", "by_trainer", "twice", "relabelled", "cut"])
def test_all_of_a_batch_arrives(found, way):
    """However busy the device is: pixels, labels, masks and ids, their types and strides."""
    assert found["wrong"][way] == 0


def test_a_batch_crosses_by_one_copy(found):
    # a step's counter is made by one more
    assert found["copies"]["by_hand"] == pytest.approx(1, abs=0.1)
    assert found["copies"]["by_trainer"] == pytest.approx(1, abs=0.1)
    # the room beside the images may still be read: what crosses again crosses by itself
    assert found["copies"]["twice"] == pytest.approx(6, abs=0.1)


def test_pictures_outside_any_shard_cross_by_one_copy(found):
    """With one crop of each, and with five; one cannot be read, and the last batch is short."""
    assert found["pictures"] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("augment", ["crop", "pad"])
def test_numbers_and_boxes_of_a_split_on_the_device_cross_by_one_copy(found, augment):
    assert found["resident"][augment]["a_batch"] == 1


@pytest.mark.parametrize("augment", ["crop", "pad"])
def test_a_split_is_brought_to_the_device_without_waiting(found, augment):
    """From pinned memory, while the next images are decoded."""
    assert found["resident"][augment]["filled_by"] > 0
    assert found["resident"][augment]["pageable_waits"] == 0


def test_who_keeps_ids_and_labels_keeps_no_images(found):
    assert found["kept"]["held"] < 1
    # being made, ahead, handed out, in the loop's hands: as many as for who keeps nothing
    assert found["kept"]["pinned_blocks"] <= 7


def test_the_state_is_that_of_the_batch_in_the_loop(found):
    """Not of the batch that is on its way: in the middle, at the end, of an epoch that is left."""
    plain, ahead = found["states"]["plain"], found["states"]["ahead"]
    assert ahead == plain
    assert plain[0][:2] == [[0, 1], [0, 2]]
    assert plain[0][-2:] == [[0, 14], [1, 0]]
    assert plain[2][-1] == [2, 3]
    assert all(found["going_on"])
    assert len(found["going_on"]) == 10


def test_an_error_comes_in_its_turn(found):
    """What was made before it is handed out first."""
    assert found["error"] == [FIRST_BAD, "cannot be read", FIRST_BAD]

"""The blocks of a JPEG in the order of each of its scans (ITU-T T.81, A.2)."""

import numpy as np

_MAX_BLOCKS_OF_MCU = 10
_MAX_COEFFICIENTS = 300_000_000  # 600 MB: three full planes of the packer's MAX_PIXELS


class Grid:
    """Where the blocks of a frame are: they are numbered in the order of one interleaved scan."""

    def __init__(self, width: int, height: int, factors: list[tuple[int, int]]) -> None:
        """Lay out `width` x `height` pixels; `factors` are each component's horizontal and vertical
        sampling.

        Raises ValueError for more blocks than are allowed in an MCU, or read at all.
        """
        widest, tallest = (8 * max(side) for side in zip(*factors, strict=True))
        rows = -(-height // tallest)
        columns = -(-width // widest)
        self.num_components = len(factors)
        per_mcu = sum(h * v for h, v in factors)
        self.num_blocks = rows * columns * per_mcu
        if per_mcu > _MAX_BLOCKS_OF_MCU or 64 * self.num_blocks > _MAX_COEFFICIENTS:
            raise ValueError("too many blocks")
        self._mcus = []  # of each component: blocks [MCUs, blocks of the component in an MCU]
        # the same as rows and columns of the image, without the padding at its edges
        self._planes = []
        numbers = np.arange(self.num_blocks).reshape(rows, columns, per_mcu)
        at = 0
        for h, v in factors:
            own = numbers[:, :, at : at + h * v]
            plane = own.reshape(rows, columns, v, h).swapaxes(1, 2).reshape(rows * v, columns * h)
            self._mcus.append(own.reshape(-1, h * v))
            self._planes.append(plane[: -(-height * v // tallest), : -(-width * h // widest)])
            at += h * v

    def order(self, components: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """List a scan's blocks in its order, and for each block of an MCU which of the scan's
        components it is of.
        """
        if len(components) == 1:
            return self._planes[components[0]].ravel(), np.zeros(1, np.int64)
        mcus = [self._mcus[component] for component in components]
        of_mcu = np.repeat(np.arange(len(mcus)), [own.shape[1] for own in mcus])
        return np.concatenate(mcus, axis=1).ravel(), of_mcu

    def fill_padding(self, coefficients: np.ndarray) -> None:
        """Give padding blocks, which scans of one component leave out, the DC of the block before,
        as libjpeg does.
        """
        source = np.zeros(self.num_blocks, np.int64)
        for plane in self._planes:
            source[plane] = plane
        coefficients[:, 0] = coefficients[np.maximum.accumulate(source), 0]

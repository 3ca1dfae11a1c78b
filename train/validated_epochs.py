"""Which epochs of a run are validated: all, or every so many of them and the last one."""

VALIDATE_EVERY = (
    "validate after every so many epochs, and after the last one; the best epoch is one of these, "
    "and an epoch that is not validated saves that time"
)


class Validated:
    """The validated epochs of a configuration, a dataclass that has these two options."""

    epochs: int
    validate_every: int

    def validates_after(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 0, is validated: a function of it and of the options
        only, so that a run that goes on validates the same ones.
        """
        done = epoch + 1
        return done % self.validate_every == 0 or done >= self.epochs

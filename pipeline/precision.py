"""Who decides on the student's precision: its option, or `accelerate launch --mixed_precision`."""

from dataclasses import replace

from accelerate import PartialState

from pipeline.config import Config
from student.recipe import launched_precision, mixed_precision


def follow_launcher(config: Config, given: bool) -> Config:
    """The config with the precision that `accelerate launch` names, where the option leaves it open.

    It then stands in the config of the student's folder as if the option had named it. The options
    `generator.precision` and `label.precision` are no affair of the launcher's.

    Args:
        given: whether student.precision is on the command line or in the config file.

    Raises:
        UserError: the option and the launcher name different ones, or the launcher names fp8.
    """
    if (launched := launched_precision()) is None:
        return config
    if not given or config.student.precision == "auto":
        config = replace(config, student=replace(config.student, precision=launched))
    mixed_precision(config.student)  # refuses another one
    PartialState().print(
        f"accelerate launch asks for {launched}: student.precision is {launched}, generator.precision "
        f"stays {config.generator.precision}, label.precision stays {config.label.precision}"
    )
    return config

"""Population-based training: a population that copies its best members and perturbs their hyperparameters."""

from purerl.pbt.result import PBTResult, load_pbt
from purerl.pbt.run import pbt
from purerl.pbt.schedule import train_schedule

__all__ = ["PBTResult", "load_pbt", "pbt", "train_schedule"]  # fmt: skip

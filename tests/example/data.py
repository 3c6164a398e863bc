"""Photos of one's own: a LightningDataModule that gives uint8 (B, H, W, 3) batches of one size."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Photos(pl.LightningDataModule):
    """Any data set of pictures `(3, H, W)` in [0, 1], with or without labels, as torchvision's and Hugging Face's."""

    def __init__(self, batch_size: int = 4, size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.photos: Dataset = torch.utils.data.TensorDataset(torch.rand(8, 3, size, size), torch.arange(8))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.photos, self.batch_size, shuffle=True, drop_last=True, collate_fn=as_bytes)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.photos, 1, collate_fn=as_bytes)


def as_bytes(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.stack([(255 * image).byte().permute(1, 2, 0) for image, _ in pairs])

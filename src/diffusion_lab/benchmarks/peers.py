"""One training step of the programs that people would use instead, as those programs do it: float32, their own networks.

They are no dependencies: `pip install ".[peers]"` brings them, and those that are missing are left out.
"""

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from diffusion_lab.benchmarks.timing import Work


def diffusers(size: int, batch_size: int, device: torch.device) -> tuple[Work, int]:
    """UNet2DModel with the blocks of diffusers' train_unconditional script, narrower; its step, and its parameters."""
    from diffusers import DDPMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=size,
        layers_per_block=2,
        block_out_channels=(32, 32, 64, 64, 96, 96),
        down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    ).to(device)
    scheduler = DDPMScheduler(1000)

    def loss(images: Tensor) -> Tensor:
        noise, times = torch.randn_like(images), torch.randint(1000, (len(images),), device=device)
        return torch.nn.functional.mse_loss(network(scheduler.add_noise(images, noise, times), times).sample, noise)

    return _step(network, loss, size, batch_size, device)


def denoising_diffusion_pytorch(size: int, batch_size: int, device: torch.device) -> tuple[Work, int]:
    """denoising-diffusion-pytorch's Unet(dim=32) in its GaussianDiffusion."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    network = Unet(dim=32, dim_mults=(1, 2, 3, 4))
    diffusion = GaussianDiffusion(network, image_size=size).to(device)
    return _step(diffusion, diffusion, size, batch_size, device)


def _step(network: torch.nn.Module, loss, size: int, batch_size: int, device: torch.device) -> tuple[Work, int]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images = torch.rand(batch_size, 3, size, size, device=device)

    def work() -> int:
        loss(images).backward()
        optimizer.step()
        optimizer.zero_grad()
        return batch_size

    return work, sum(parameter.numel() for parameter in network.parameters())


def keras_ddim(size: int, batch_size: int, device: torch.device) -> tuple[Work, int]:
    """The network of the Keras example "Denoising Diffusion Implicit Models", in Keras on TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import tensorflow as tf
    from keras import Input, Model, layers, ops, optimizers

    def residual(x, width: int):
        skip = x if x.shape[-1] == width else layers.Conv2D(width, 1)(x)
        x = layers.BatchNormalization(center=False, scale=False)(x)
        x = layers.Conv2D(width, 3, padding="same", activation="swish")(x)
        return layers.Add()([layers.Conv2D(width, 3, padding="same")(x), skip])

    def embedding(power):
        angles = 2 * 3.141592653589793 * ops.exp(ops.linspace(0.0, 6.907755, 16)) * power
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=3)

    noisy, power = Input((size, size, 3)), Input((1, 1, 1))
    level = layers.UpSampling2D(size, interpolation="nearest")(layers.Lambda(embedding, (1, 1, 32))(power))
    x, skips = layers.Concatenate()([layers.Conv2D(32, 1)(noisy), level]), []
    for width in (32, 64, 96):
        for _ in range(2):
            skips.append(x := residual(x, width))
        x = layers.AveragePooling2D(2)(x)
    for _ in range(2):
        x = residual(x, 128)
    for width in (96, 64, 32):
        x = layers.UpSampling2D(2, interpolation="bilinear")(x)
        for _ in range(2):
            x = residual(layers.Concatenate()([x, skips.pop()]), width)
    network = Model([noisy, power], layers.Conv2D(3, 1, kernel_initializer="zeros")(x))
    optimizer = optimizers.AdamW(1e-3, weight_decay=1e-4)
    optimizer.build(network.trainable_variables)
    images = tf.random.normal((batch_size, size, size, 3))

    @tf.function
    def step():
        noise, angle = tf.random.normal(images.shape), tf.random.uniform((batch_size, 1, 1, 1), 0.32, 1.55)
        with tf.GradientTape() as tape:
            output = network([tf.cos(angle) * images + tf.sin(angle) * noise, tf.sin(angle) ** 2], training=True)
            loss = tf.reduce_mean(tf.abs(output - noise))
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def work() -> int:
        float(step())
        return batch_size

    return work, network.count_params()


PEERS = {"diffusers": diffusers, "denoising_diffusion_pytorch": denoising_diffusion_pytorch, "tensorflow": keras_ddim}


def installed() -> dict:
    """The peers that can be imported here, by the name of the module that they need."""
    return {module: build for module, build in PEERS.items() if find_spec(module)}

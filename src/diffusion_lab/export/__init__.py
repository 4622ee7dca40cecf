"""A trained denoiser as a file that is used elsewhere: ONNX, safetensors, a torch program, diffusers, a page in the browser."""

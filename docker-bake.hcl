# Both images for all their platforms: docker buildx bake [cpu|cuda] --set '*.platform=linux/amd64' ...
# For one kind of GPU: CUDA_ARCHITECTURES=90 docker buildx bake cuda
# A release: IMAGE=registry/owner/rpc-wrapper VERSION=1.2.3 docker buildx bake --push

variable "IMAGE" { default = "rpc-wrapper" }
variable "VERSION" { default = "" }
variable "REVISION" { default = "unknown" }
variable "LLAMACPP_VERSION" { default = "" }
variable "LLAMACPP_REPO" { default = "" }
variable "CUDA_ARCHITECTURES" { default = "" } # what docker/Dockerfile.cuda says

group "default" { targets = ["cpu", "cuda"] }

target "common" {
  context = "."
  args = {
    VERSION          = VERSION == "" ? "dev" : VERSION
    REVISION         = REVISION
    LLAMACPP_VERSION = LLAMACPP_VERSION
    LLAMACPP_REPO    = LLAMACPP_REPO
  }
}

target "cpu" {
  inherits   = ["common"]
  dockerfile = "docker/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = compact(["${IMAGE}:latest", VERSION == "" ? "" : "${IMAGE}:${VERSION}"])
}

target "cuda" {
  inherits   = ["common"]
  dockerfile = "docker/Dockerfile.cuda"
  args       = { CUDA_ARCHITECTURES = CUDA_ARCHITECTURES == "" ? null : CUDA_ARCHITECTURES }
  platforms  = ["linux/amd64"]
  tags       = compact(["${IMAGE}:latest-cuda", VERSION == "" ? "" : "${IMAGE}:${VERSION}-cuda"])
}

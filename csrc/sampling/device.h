#pragma once
// The rules of sampling run on the host and on a device, and must choose the same token for the same logits. So every
// float operation here is one IEEE operation, never contracted: nvcc would fuse a * b + c, the host is built without.

#if defined(__CUDACC__)
#define PYGPT_HOST_DEVICE __host__ __device__
#else
#define PYGPT_HOST_DEVICE
#endif

namespace pygpt::sampling {

PYGPT_HOST_DEVICE inline float multiply(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

PYGPT_HOST_DEVICE inline float add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

}  // namespace pygpt::sampling

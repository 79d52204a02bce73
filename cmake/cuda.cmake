# The GPU's part, where it is wanted: sets pygpt_with_cuda, and adds the library pygpt_cuda.
#
# ON: it must be possible, for every target. OFF: never. AUTO: where both nvcc and a GPU are, for that GPU alone; a
# machine without one would compile for a minute what it can never run. nvcc is called directly, for CMake's own CUDA
# language takes longer to set up than the kernels to compile, and 3.25 does not know nvcc's -std=c++20.

set(PYGPT_CUDA AUTO CACHE STRING "Build for NVIDIA GPUs: AUTO (where nvcc and a GPU are), ON or OFF")
set(PYGPT_CUDA_ARCHITECTURES "" CACHE STRING "Targets, as 75;80;90a; empty: all (ON), or the GPU's that is here (AUTO)")

function(find_gpu_targets result)
  set(${result} "" PARENT_SCOPE)
  find_program(PYGPT_NVIDIA_SMI nvidia-smi)
  if(NOT PYGPT_NVIDIA_SMI)
    return()
  endif()
  execute_process(COMMAND ${PYGPT_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
    OUTPUT_VARIABLE listed ERROR_QUIET RESULT_VARIABLE failed TIMEOUT 30)
  string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${listed}")
  if(failed OR NOT capabilities)
    return()
  endif()
  list(REMOVE_DUPLICATES capabilities)
  string(REPLACE "." "" capabilities "${capabilities}")
  string(REGEX REPLACE "(^|;)90(;|$)" "\\190a\\2" capabilities "${capabilities}")
  set(${result} "${capabilities}" PARENT_SCOPE)
endfunction()

set(pygpt_with_cuda FALSE)
set(cuda_targets "${PYGPT_CUDA_ARCHITECTURES}")
string(TOUPPER "${PYGPT_CUDA}" cuda_wanted)
if(cuda_wanted STREQUAL "AUTO")
  find_gpu_targets(gpu_targets)
  if(NOT gpu_targets)
    message(STATUS "CUDA: no GPU here, not built (PYGPT_CUDA=ON builds it anyway)")
    return()
  endif()
  if(NOT cuda_targets)
    set(cuda_targets "${gpu_targets}")
  endif()
  find_package(CUDAToolkit 12.0 QUIET)
elseif(cuda_wanted)
  find_package(CUDAToolkit 12.0 REQUIRED)
else()
  return()
endif()
if(NOT CUDAToolkit_FOUND OR NOT TARGET CUDA::cudart_static OR NOT CUDAToolkit_NVCC_EXECUTABLE)
  if(NOT cuda_wanted STREQUAL "AUTO")
    message(FATAL_ERROR "PYGPT_CUDA=${PYGPT_CUDA}, but CUDA's toolkit (nvcc, cudart_static) was not found: set CUDAToolkit_ROOT")
  endif()
  message(STATUS "CUDA: a GPU, but no nvcc here, not built")
  return()
endif()
if(NOT cuda_targets)
  set(cuda_targets 75 80 86 89 90a)
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND cuda_targets 100 120)
  endif()
endif()
message(STATUS "CUDA: ${CUDAToolkit_VERSION} for ${cuda_targets}")

# Machine code for each target, and of the first one what a driver can compile for GPUs that are not among them.
set(cuda_codes "")
foreach(target IN LISTS cuda_targets)
  list(APPEND cuda_codes -gencode arch=compute_${target},code=sm_${target})
endforeach()
list(GET cuda_targets 0 first_target)
list(APPEND cuda_codes -gencode arch=compute_${first_target},code=compute_${first_target})

set(cuda_object ${CMAKE_BINARY_DIR}/cuda_table.o)
set(cuda_source ${CMAKE_SOURCE_DIR}/csrc/kernels/cuda/table.cu)
add_custom_command(OUTPUT ${cuda_object}
  COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} -c ${cuda_source} -o ${cuda_object} -MD -MF ${cuda_object}.d -MT ${cuda_object}
    -ccbin ${CMAKE_CXX_COMPILER} -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr --threads 2
    -Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off,-fno-math-errno
    -I${CMAKE_SOURCE_DIR}/csrc -DPYGPT_CUDA_SYMBOL=pygpt_cuda_kernels ${cuda_codes}
  DEPENDS ${cuda_source} DEPFILE ${cuda_object}.d VERBATIM
  COMMENT "Compiling the GPU's kernels for ${cuda_targets}")
add_library(pygpt_cuda STATIC ${cuda_object} csrc/backend/cuda/nvidia_device.cpp)
target_link_libraries(pygpt_cuda PUBLIC pygpt_options PRIVATE CUDA::cudart_static)
target_include_directories(pygpt_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
set(pygpt_with_cuda TRUE)

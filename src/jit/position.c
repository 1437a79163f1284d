/* The positions' types and values. In Metal the last group of an axis may be partial: names with `dispatch` give the size
 * that was asked for, the others the group's own. In CUDA all groups are whole, and the types are qualified: an array before
 * them may be named dim3. */
#include "jit/position.h"

#include "jit/shim.h"

#define METAL(name, type, value, apart) { #name, INVAR_SHIM_METAL, type, value, apart }
#define CUDA(name, type, value) { #name, INVAR_SHIM_CUDA, type, value, true }
#define VECTOR(type, array) type "(" array "[0], " array "[1], " array "[2])"
#define PRODUCT(array) array "[0] * " array "[1] * " array "[2]"

const invar_position_name invar_position_names[] = {
    METAL(dispatch_quadgroups_per_threadgroup, "uint", "(" PRODUCT("invar_l.threadgroup") " + 3) / 4", false),
    METAL(dispatch_simdgroups_per_threadgroup, "uint", "(" PRODUCT("invar_l.threadgroup") " + 31) / 32", false),
    METAL(dispatch_threads_per_threadgroup, "uint3", VECTOR("uint3", "invar_l.threadgroup"), false),
    METAL(grid_origin, "uint3", "uint3(0u, 0u, 0u)", false),
    METAL(grid_size, "uint3", VECTOR("uint3", "invar_l.grid"), false),
    METAL(quadgroup_index_in_threadgroup, "uint", "invar_p.index / 4", true),
    METAL(quadgroups_per_threadgroup, "uint", "(" PRODUCT("invar_p.size") " + 3) / 4", true),
    METAL(simdgroup_index_in_threadgroup, "uint", "invar_p.index / 32", true),
    METAL(simdgroups_per_threadgroup, "uint", "(" PRODUCT("invar_p.size") " + 31) / 32", true),
    METAL(thread_execution_width, "uint", "32", false),
    METAL(thread_index_in_quadgroup, "uint", "invar_p.index % 4", true),
    METAL(thread_index_in_simdgroup, "uint", "invar_p.index % 32", true),
    METAL(thread_index_in_threadgroup, "uint", "invar_p.index", true),
    METAL(thread_position_in_grid, "uint3", VECTOR("uint3", "invar_p.grid"), false),
    METAL(thread_position_in_threadgroup, "uint3", VECTOR("uint3", "invar_p.local"), true),
    METAL(threadgroup_position_in_grid, "uint3", VECTOR("uint3", "invar_p.group"), true),
    METAL(threadgroups_per_grid, "uint3", VECTOR("uint3", "invar_l.groups"), false),
    METAL(threads_per_grid, "uint3", VECTOR("uint3", "invar_l.grid"), false),
    METAL(threads_per_simdgroup, "uint", "32", false),
    METAL(threads_per_threadgroup, "uint3", VECTOR("uint3", "invar_p.size"), true),
    CUDA(threadIdx, "invar_shim::uint3", "uint3{invar_p.local[0], invar_p.local[1], invar_p.local[2]}"),
    CUDA(blockIdx, "invar_shim::uint3", "uint3{invar_p.group[0], invar_p.group[1], invar_p.group[2]}"),
    CUDA(blockDim, "invar_shim::dim3", VECTOR("dim3", "invar_l.threadgroup")),
    CUDA(gridDim, "invar_shim::dim3", VECTOR("dim3", "invar_l.groups")),
};
const int32_t invar_position_count = sizeof invar_position_names / sizeof invar_position_names[0];

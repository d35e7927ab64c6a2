// The schedule of a batch of attention: tasks cut by the request alone; dealt in equal shares of the line of all work, or in turns.
constexpr bool by_request = true, longest_first = false, two_lines = false;

#include "attention_schedule.cuh"

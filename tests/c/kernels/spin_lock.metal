// in: x float32 1 / out: y float32 1, lock int32 1
// body
uint i = thread_position_in_grid.x;
device atomic_int *flag = (device atomic_int *)lock;
int expected = 0;
while (!atomic_compare_exchange_weak_explicit(flag, &expected, 1, memory_order_relaxed, memory_order_relaxed)) expected = 0;
y[0] += x[i];
atomic_store_explicit(flag, 0, memory_order_relaxed);

// Runs work on several threads: those that PyTorch lends, or new ones.
#pragma once
#include <exception>
#include <thread>
#include <vector>

namespace threads {

// `GOMP_parallel` and `omp_get_thread_num` of the OpenMP that PyTorch computes with. Its threads are there already, and
// wait for work by asking again and again, for milliseconds after PyTorch's last operation: new threads beside them
// would have to share their cores.
typedef void (*Parallel)(void (*)(void*), void*, unsigned, unsigned);
typedef int (*Number)();
inline Parallel parallel = nullptr;
inline Number number = nullptr;

// Whether so many threads can be started now.
inline bool can_start(int count) {
    std::vector<std::thread> all;
    try {
        while (int(all.size()) < count) all.emplace_back([] {});
    } catch (const std::exception&) {
    }
    for (std::thread& one : all) one.join();
    return int(all.size()) == count;
}

// Calls `work(rank)` on `count` threads, of which the calling one has rank 0, and waits for all. There may be fewer, if
// the system has no more: whoever is there must do all of it. `work` must not throw.
template <class Work> void run_on_new(int count, const Work& work) {
    std::vector<std::thread> others;
    try {
        for (int rank = 1; rank < count; ++rank) others.emplace_back([&work, rank] { work(rank); });
    } catch (const std::exception&) {
    }
    work(0);
    for (std::thread& other : others) other.join();
}

// The same on the threads that PyTorch lends. Threads that are at work already cannot borrow others: they take new ones.
template <class Work> void run(int count, const Work& work) {
    if (count <= 1) return work(0);
    static thread_local int tried = 1;  // each thread has threads of its own lent
    if (parallel && count > tried && can_start(count - 1)) tried = count;  // OpenMP ends the process if it cannot
    if (!parallel || count > tried) return run_on_new(count, work);
    parallel([](void* work) { (*(const Work*)work)(number()); }, (void*)&work, count, 0);
}

}  // namespace threads

extern "C" void lend_threads(threads::Parallel parallel, threads::Number number) {
    threads::parallel = parallel, threads::number = number;
}

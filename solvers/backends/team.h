// Threads that share the work of a trajectory, and teams of them that share the trajectories of a batch.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include "threads.h"

namespace team {

// Aligned memory, not initialised.
class Memory {
    struct Free { void operator()(void* p) const { std::free(p); } };
    std::unique_ptr<void, Free> held;

public:
    explicit Memory(size_t bytes) : held(std::malloc(bytes + 64)) {
        if (!held) throw std::bad_alloc();
    }
    char* begin() const { return (char*)(((uintptr_t)held.get() + 63) & ~uintptr_t(63)); }
};

// How many calls are left to single threads. It is set when a thread has waited for another one so long that that one's
// core must have been busy with something else: then to share the work of a trajectory costs more than it gains.
inline std::atomic<int> calls_alone{0};

// Phases of independent pieces of work, one phase after the other. A phase is over when its pieces are done, whoever did
// them: a thread that has not started yet, or whose core is busy with another process, holds nobody up, unless it lost
// its core with a piece in hand. Each thread begins with pieces that it did the last time, which lie in its core's cache.
class Phases {
    static constexpr int SPINS = 400, YIELDS = 16, ALONE = 50;  // spins and yields: some 15 and 5 microseconds
    typedef std::chrono::steady_clock Clock;
    struct alignas(128) Ticket { std::atomic<uint64_t> next{0}; };  // the phase, and in the lower half the next piece
    std::unique_ptr<Ticket[]> tickets;
    int size = 0, pieces[2] = {0, 0}, phases = 0;
    alignas(128) std::atomic<int> current{0};
    alignas(128) std::atomic<int> done{0};
    std::atomic<int> asleep{0};
    std::mutex mutex;
    std::condition_variable woken;

    int first(int rank, int phase) const { return int(long(pieces[phase % 2]) * rank / size); }
    void hand_out(int phase) {
        done.store(0, std::memory_order_relaxed);
        for (int rank = 0; rank < size; ++rank)
            tickets[rank].next.store(uint64_t(phase) << 32 | first(rank, phase), std::memory_order_release);
        current.store(phase);
        if (asleep.load()) {
            std::lock_guard<std::mutex> lock(mutex);
            woken.notify_all();
        }
    }
    // On a machine with a core for each thread nobody has to be woken: one that waits asks again and again, for longer
    // than threads are apart as a rule. Then it gives its core to others, and at last sleeps, so that the system moves
    // the thread that it waits for to the idle core.
    void wait(int phase) {
        for (int i = 0; i < SPINS + YIELDS; ++i) {
            if (current.load(std::memory_order_acquire) != phase) return;
            if (i >= SPINS) std::this_thread::yield();
#if defined(__x86_64__)
            else __builtin_ia32_pause();
#endif
        }
        std::unique_lock<std::mutex> lock(mutex);
        asleep.fetch_add(1);
        while (current.load() == phase) woken.wait(lock);
        asleep.fetch_sub(1);
    }

public:
    // So many phases, those of even and of odd numbers with so many pieces, at least one, for so many threads.
    void set(int number, int even, int odd, int threads) {
        phases = number, pieces[0] = even, pieces[1] = odd;
        if (size != threads) size = threads, tickets.reset(new Ticket[threads]);
        hand_out(0);
    }

    // What the thread of that rank does; `work(phase, piece)` does a piece.
    template <class Work> void run(int rank, const Work& work) {
        for (int phase; (phase = current.load(std::memory_order_acquire)) < phases;) {
            int made = 0;
            const auto began = Clock::now();
            for (int k = 0; k < size; ++k) {
                const int owner = (rank + k) % size;
                std::atomic<uint64_t>& next = tickets[owner].next;
                const uint64_t end = uint64_t(phase) << 32 | first(owner + 1, phase);
                for (uint64_t ticket = next.load(); ticket >> 32 == uint64_t(phase) && ticket < end;)
                    if (next.compare_exchange_weak(ticket, ticket + 1)) work(phase, int(uint32_t(ticket))), ++made, ++ticket;
            }
            if (made && done.fetch_add(made) + made == pieces[phase % 2]) {
                hand_out(phase + 1);
                continue;
            }
            const auto idle = Clock::now();
            wait(phase);
            if (made && Clock::now() - idle > std::max<Clock::duration>(idle - began, std::chrono::milliseconds(1)))
                calls_alone.store(ALONE);
        }
    }
};

// Computes the trajectories of a batch on the available threads, at most `most` of them for one trajectory. `make()`
// returns a solver, `start(solver, b, threads)` gives it a trajectory, `end(solver, b)` takes the result; the solver's
// `run(rank)` is what a thread does. Without memory or threads for all of it, fewer do the work. Returns 0, or 1 if
// there was no memory at all.
template <class Make, class Start, class End>
int run(int batch, int available, int most, const Make& make, const Start& start, const End& end) {
    const int teams = std::max(1, std::min(available, batch));
    int size = std::max(1, std::min(available / teams, most));
    if (size > 1 && calls_alone.load() > 0) calls_alone.fetch_sub(1), size = 1;
    std::atomic<int> next{0}, ended{0};
    threads::run(teams, [&](int) {
        try {
            auto solver = make();  // before it takes a trajectory: without memory the others are left to other threads
            solver->add_thread();
            try {
                while (solver->threads() < size) solver->add_thread();
            } catch (const std::bad_alloc&) {
            }
            for (int b; (b = next++) < batch;) {
                start(*solver, b, solver->threads());
                const auto work = [&](int rank) { solver->run(rank); };
                teams > 1 ? threads::run_on_new(solver->threads(), work) : threads::run(solver->threads(), work);
                end(*solver, b);
                ++ended;
            }
        } catch (const std::bad_alloc&) {
        }
    });
    return ended < batch;
}

}  // namespace team

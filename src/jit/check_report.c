/* Check mode's findings: the line behind a program counter, one finding a defect, and the sentences. */
#define _GNU_SOURCE
#include "jit/check_state.h"

#include "jit/text.h"

#include <inttypes.h>
#include <string.h>

/* ---- where ------------------------------------------------------------------------------------------------ */

/* The program counter's entry, new if need be; 0 when the table is nearly full. Entry 0 is no place. */
static uint32_t entry_of(invar_checker *checker, void *pc) {
    const uint32_t mask = (1u << INVAR_WHERE_BITS) - 1;
    uint32_t i = (uint32_t)((uintptr_t)pc * 0x9e3779b97f4a7c15u >> 40) & mask;
    for (uint32_t tried = 0; tried < 512; tried++, i = (i + 1) & mask) {
        invar_where *where = &checker->wheres[i];
        if (!i) continue;
        if (where->pc == pc) return i;
        if (where->pc) continue;
        where->pc = pc;
        /* A return address: the call it returns from lies before it. */
        invar_line_row row = invar_lines_find(&checker->lines, (uint64_t)((char *)pc - checker->base) - 1);
        where->place = (invar_place){ row.text, row.line };
        return i;
    }
    return 0;
}

/* The innermost frame that is the user's text: an access in the shim is blamed on the line that called it. */
uint32_t invar_check_where(invar_checker *checker, void *pc, void *frame) {
    uint32_t entry = entry_of(checker, pc);
    uintptr_t at = (uintptr_t)frame;
    for (int depth = 0; depth < 64 && checker->wheres[entry].place.text == INVAR_TEXT_OTHER; depth++) {
        uintptr_t next = *(uintptr_t *)at;
        if (next <= at || next >> INVAR_STACK_BITS != at >> INVAR_STACK_BITS || next % sizeof(void *)) return 0;
        at = next;
        entry = entry_of(checker, ((void **)at)[1]);
    }
    return entry;
}

invar_place invar_check_site(const invar_checker *checker, int32_t site) {
    const invar_module *module = checker->check->module;
    if (site <= 0 || site >= module->site_count) return (invar_place){ INVAR_TEXT_BODY, 0 };
    const char *header = checker->check->header, *file = module->sites[site].file;
    bool in_header = header && file && strcmp(header, file) == 0;
    return (invar_place){ in_header ? INVAR_TEXT_HEADER : INVAR_TEXT_BODY, (uint32_t)module->sites[site].line };
}

void invar_check_set_thread(const invar_checker *checker, uint32_t group, uint32_t index, int64_t thread[3],
                            int64_t position[3]) {
    const invar_launch *launch = &checker->launch;
    uint32_t id[3] = { group % launch->groups[0], group / launch->groups[0] % launch->groups[1],
                       group / launch->groups[0] / launch->groups[1] };
    for (int i = 0; i < 3; i++) {
        uint32_t begin = id[i] * launch->threadgroup[i], left = launch->grid[i] - begin;
        uint32_t size = left < launch->threadgroup[i] ? left : launch->threadgroup[i];
        position[i] = id[i];
        thread[i] = (int64_t)begin + (i < 2 ? index % size : index);
        index /= size;
    }
}

/* ---- findings ---------------------------------------------------------------------------------------------- */

static bool same_place(invar_place a, invar_place b) { return a.text == b.text && a.line == b.line; }

/* Whether there is a finding of this kind and place; it is counted. */
static bool is_known(invar_checker *checker, const invar_finding *finding) {
    for (int i = 0; i < checker->finding_count; i++) {
        invar_finding *known = &checker->findings[i];
        if (known->kind != finding->kind || known->region != finding->region || !same_place(known->place, finding->place) ||
            !same_place(known->other_place, finding->other_place))
            continue;
        known->count += known->run == checker->run;
        return true;
    }
    return false;
}

void invar_check_find(invar_checker *checker, const invar_finding *finding) {
    if (is_known(checker, finding) || checker->finding_count == INVAR_MAX_FINDINGS) return;
    invar_finding *made = &checker->findings[checker->finding_count++];
    *made = *finding;
    made->count = 1;
    made->run = checker->run;
}

static const char *deed(const invar_access *access, bool reads) {
    return access->atomic ? "atomic operation" : reads ? "read" : "write";
}

void invar_check_race(invar_checker *checker, const invar_region *region, const char *address, uint32_t bytes,
                      const invar_access *prior, const invar_access *now, bool prior_reads, bool now_reads) {
    invar_finding finding = { .kind = INVAR_KIND_RACE, .region = region };
    finding.place = checker->wheres[now->where].place;
    finding.other_place = checker->wheres[prior->where].place;
    finding.index = invar_check_index(region, address, bytes);
    finding.did = deed(now, now_reads);
    finding.other_did = deed(prior, prior_reads);
    invar_check_set_thread(checker, now->group, now->index, finding.thread, finding.group);
    invar_check_set_thread(checker, prior->group, prior->index, finding.other_thread, finding.other_group);
    invar_finding turned = finding; /* the same two lines may meet the other way round */
    turned.place = finding.other_place;
    turned.other_place = finding.place;
    if (!is_known(checker, &turned)) invar_check_find(checker, &finding);
}

/* ---- sentences ----------------------------------------------------------------------------------------------- */

static const char *const kind_names[] = {
    [INVAR_KIND_READ_OUTSIDE] = "out-of-bounds read",
    [INVAR_KIND_WRITE_OUTSIDE] = "out-of-bounds write",
    [INVAR_KIND_INPUT_WRITTEN] = "write to an input",
    [INVAR_KIND_UNINITIALISED] = "uninitialised read",
    [INVAR_KIND_UNWRITTEN] = "unwritten output",
    [INVAR_KIND_RACE] = "race",
    [INVAR_KIND_BARRIER] = "barrier not reached",
    [INVAR_KIND_SCHEDULE] = "schedule-dependent result",
    [INVAR_KIND_ENDLESS] = "endless loop",
    [INVAR_KIND_DEADLOCK] = "deadlock",
    [INVAR_KIND_DIVISION] = "division by zero",
    [INVAR_KIND_OVERFLOW] = "division overflow",
    [INVAR_KIND_INDEX] = "out-of-bounds index",
    [INVAR_KIND_RETURN] = "missing return",
    [INVAR_KIND_TRAP] = "trap",
    [INVAR_KIND_STACK] = "stack overflow",
};

#define SAY(...) invar_text_format(text, __VA_ARGS__)

static const char *file_of(const invar_checker *checker, invar_place place) {
    bool header = place.text == INVAR_TEXT_HEADER && checker->check->header;
    return header ? checker->check->header : checker->check->body;
}

static void say_thread(invar_text *text, const int64_t thread[3], const int64_t group[3]) {
    SAY("thread (%" PRId64 ", %" PRId64 ", %" PRId64 ") of group (%" PRId64 ", %" PRId64 ", %" PRId64 ")", thread[0],
        thread[1], thread[2], group[0], group[1], group[2]);
}

static void say_element(invar_text *text, const invar_finding *finding) {
    SAY("%s[%" PRId64 "]", finding->region->name, finding->index);
}

static void say_race(const invar_checker *checker, invar_text *text, const invar_finding *finding) {
    SAY("%s of ", finding->did);
    say_element(text, finding);
    SAY(" by ");
    say_thread(text, finding->thread, finding->group);
    SAY(", and %s of it by ", finding->other_did);
    say_thread(text, finding->other_thread, finding->other_group);
    SAY(" at %s:%u, with nothing between that orders them", file_of(checker, finding->other_place), finding->other_place.line);
}

static void say_extent(invar_text *text, const invar_region *region) {
    if (!region->bytes) {
        SAY(region->array ? ", which has no elements," : ", where shared_memory=0 gives no bytes,");
        return;
    }
    if (!region->element_bytes) { /* dynamic shared memory: the index counted elements of what was read or written there */
        SAY(", where only %zu bytes exist,", region->bytes);
        return;
    }
    const int64_t first = region->array ? region->array->begin : 0;
    const size_t count = (region->bytes + region->element_bytes - 1) / region->element_bytes;
    SAY(", where only %s[%" PRId64 "] to [%" PRId64 "] exist,", region->name, first, first + (int64_t)count - 1);
}

static void say_finding(const invar_checker *checker, invar_text *text, const invar_finding *finding) {
    SAY("%s:", file_of(checker, finding->place));
    if (finding->place.line) SAY("%u:", finding->place.line); /* what no thread writes has no line */
    SAY(" %s: ", kind_names[finding->kind]);
    switch (finding->region ? finding->kind : INVAR_KIND_TRAP) {
    case INVAR_KIND_RACE: say_race(checker, text, finding); break;
    case INVAR_KIND_READ_OUTSIDE:
    case INVAR_KIND_WRITE_OUTSIDE:
    case INVAR_KIND_INPUT_WRITTEN:
    case INVAR_KIND_UNINITIALISED:
        say_element(text, finding);
        if (finding->kind <= INVAR_KIND_WRITE_OUTSIDE) {
            say_extent(text, finding->region);
        } else if (finding->kind == INVAR_KIND_UNINITIALISED) {
            SAY(", which nobody has written yet,");
        }
        SAY(" by ");
        say_thread(text, finding->thread, finding->group);
        break;
    default: SAY("%s", finding->detail);
    }
    if (finding->count > 1 && finding->kind != INVAR_KIND_UNWRITTEN) SAY("; %" PRId64 " more like it", finding->count - 1);
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

/* A read that came before its write for want of a barrier is a race, and needs no second name. */
static void drop_consequences(invar_checker *checker) {
    for (int i = 0; i < checker->finding_count; i++)
        for (int k = 0; k < checker->finding_count && checker->findings[i].kind == INVAR_KIND_UNINITIALISED; k++) {
            const invar_finding *race = &checker->findings[k];
            if (race->kind == INVAR_KIND_RACE && race->region == checker->findings[i].region &&
                (same_place(race->place, checker->findings[i].place) ||
                 same_place(race->other_place, checker->findings[i].place)))
                checker->findings[i].dropped = true;
        }
}

static void call_back(const invar_checker *checker, const invar_finding *finding, const char *text) {
    invar_kernel_report report = { .size = sizeof report, .kind = kind_names[finding->kind], .text = text };
    report.file = file_of(checker, finding->place);
    report.line = (int32_t)finding->place.line;
    memcpy(report.thread, finding->thread, sizeof report.thread);
    memcpy(report.group, finding->group, sizeof report.group);
    memcpy(report.other_thread, finding->other_thread, sizeof report.other_thread);
    report.array = finding->region ? finding->region->name : "";
    report.index = finding->index;
    report.other_line = (int32_t)finding->other_place.line;
    if (finding->kind != INVAR_KIND_RACE && finding->kind != INVAR_KIND_BARRIER)
        report.other_thread[0] = report.other_thread[1] = report.other_thread[2] = -1;
    checker->check->report(checker->check->report_argument, &report);
}

invar_status invar_check_conclude(invar_checker *checker) {
    invar_text text = { 0 };
    drop_consequences(checker);
    for (int i = 0; i < checker->finding_count; i++) {
        if (checker->findings[i].dropped) continue;
        if (text.length) invar_text_string(&text, "\n");
        size_t begin = text.length;
        say_finding(checker, &text, &checker->findings[i]);
        if (checker->check->report) call_back(checker, &checker->findings[i], text.data ? text.data + begin : "");
    }
    invar_status status = INVAR_OK;
    if (checker->finding_count)
        status = invar_fail(INVAR_ERROR_KERNEL_CHECK, "%s", text.data ? text.data : "defects, and no memory to name them");
    invar_text_free(&text);
    return status;
}

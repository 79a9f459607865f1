package ansible_rulebook_ha;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.ObjLongConsumer;

import org.drools.ansible.rulebook.integration.api.RuleConfigurationOption;
import org.drools.ansible.rulebook.integration.api.RuleFormat;
import org.drools.ansible.rulebook.integration.api.RuleNotation;
import org.drools.ansible.rulebook.integration.api.RulesExecutor;
import org.drools.ansible.rulebook.integration.api.RulesExecutorFactory;
import org.drools.ansible.rulebook.integration.api.domain.Rule;
import org.drools.ansible.rulebook.integration.api.domain.RulesSet;
import org.drools.ansible.rulebook.integration.api.domain.conditions.MapCondition;
import org.drools.ansible.rulebook.integration.api.domain.temporal.OnceAbstractTimeConstraint;
import org.drools.ansible.rulebook.integration.api.io.JsonMapper;
import org.drools.ansible.rulebook.integration.api.rulesengine.RulesExecutionController;
import org.drools.ansible.rulebook.integration.api.rulesengine.RulesExecutorSession;
import org.drools.ansible.rulebook.integration.api.rulesengine.SyncRulesEvaluator;
import org.drools.ansible.rulebook.integration.api.rulesmodel.RulesModelUtil;
import org.drools.core.common.InternalFactHandle;
import org.drools.core.common.ReteEvaluator;
import org.drools.core.time.impl.PseudoClockScheduler;
import org.kie.api.prototype.PrototypeEventInstance;
import org.kie.api.prototype.PrototypeFactInstance;
import org.kie.api.runtime.KieSession;
import org.kie.api.runtime.rule.FactHandle;
import org.kie.api.runtime.rule.Match;

/**
 * A ruleset in the engine whose working memory is recorded.
 *
 * <p>Everything runs on the thread that calls. Time stands still between two
 * calls: the clock that Drools would start for itself is left out, and
 * {@link #advance} moves it.
 */
final class Session extends RulesExecutor {

    private final Recorder recorder;
    private final RulesSet rules;
    private final PseudoClockScheduler clock;
    private List<Match> atStart; // what matches an empty memory

    static Session of(String ruleset) {
        RulesSet rules = RuleNotation.CoreNotation.INSTANCE
            .toRulesSet(RuleFormat.JSON, ruleset);
        if (rules.hasTemporalConstraint()) {
            rules.withOptions(RuleConfigurationOption.USE_PSEUDO_CLOCK);
        }
        return new Session(rules, Factory.session(rules));
    }

    private Session(RulesSet rules, RulesExecutorSession session) {
        super(new Evaluator(session));
        this.rules = rules;
        KieSession kie = session.asKieSession();
        recorder = new Recorder(kie);
        clock = kie.getSessionClock();
        atStart = fire().join();
        rules.getRules().forEach(each -> prime(each.getRule()));
        ((Evaluator) rulesEvaluator).recorder = recorder;
        kie.addEventListener(recorder);
        ((ReteEvaluator) kie)
            .setWorkingMemoryActionListener(recorder::propagated);
    }

    /**
     * Has the engine look at a not_all once. Else it would put off something
     * that it does not put off after the first window, and a restored session
     * would bind another of two events that came at once.
     */
    private void prime(Rule rule) {
        if (rule.isEnabled()
                && rule.getCondition() instanceof MapCondition condition
                && condition.getMap().containsKey("NotAllCondition")) {
            Map<String, Object> first =
                Map.of("rulename", rule.getName() + "_");
            FactHandle handle = asKieSession().insert(
                OnceAbstractTimeConstraint.recreateControlEvent(first, null));
            asKieSession().fireAllRules(match -> false);
            asKieSession().delete(handle);
            asKieSession().fireAllRules(match -> false);
        }
    }

    Recorder recorder() {
        return recorder;
    }

    void event(String text, ObjLongConsumer<Match> found) {
        tell(processEvents(text).join(), found);
        settle(found);
    }

    void fact(String text, ObjLongConsumer<Match> found) {
        tell(processFacts(text).join(), found);
        settle(found);
    }

    void retract(
            String text, boolean partial, String[] but,
            ObjLongConsumer<Match> found) {
        tell(processRetractMatchingFacts(text, partial, but).join(), found);
        settle(found);
    }

    /**
     * Fires what the removal of matched events has made match. Drools would
     * do so with its clock's next tick; here nothing may be left for later,
     * since it would not be restored.
     */
    private void settle(ObjLongConsumer<Match> found) {
        while (recorder.hasRemoved()) {
            tell(fire().join(), found);
        }
    }

    private void tell(List<Match> matches, ObjLongConsumer<Match> found) {
        matches.forEach(match -> found.accept(match, time()));
    }

    long time() {
        return clock.getCurrentTime();
    }

    /**
     * Moves the clock, from timer to timer, so that windows end in their
     * order; several that end within a tick end together, as with Drools'
     * own clock.
     *
     * @param now where it shall stand, in milliseconds since 1970
     * @param found told of each match, and of the time that it was found at
     */
    void advance(long now, ObjLongConsumer<Match> found) {
        if (atStart != null) {
            tell(atStart, found);
            atStart = null;
        }
        for (long left = now - time(); left > 0; left = now - time()) {
            long next = clock.getTimeToNextJob();
            if (next < 0 || next > left) {
                clock.advanceTime(left, TimeUnit.MILLISECONDS);
                return;
            }
            tell(advanceTime(next, TimeUnit.MILLISECONDS).join(), found);
            settle(found);
        }
    }

    /**
     * Puts records back into an empty session, each at its time, and leaves
     * the clock at the time of the last one.
     *
     * <p>Whatever these objects make match has matched before, when they
     * came: the rules see all of it and none fires.
     *
     * @param kept in the order of their numbers
     */
    void restore(Collection<Kept> kept) {
        Map<Long, PrototypeFactInstance> objects = new HashMap<>();
        long last = Long.MIN_VALUE;
        for (Kept each : kept) {
            // One that was changed later stands behind some that are younger.
            clock.setStartupTime(each.insertedAt());
            last = Math.max(last, each.insertedAt());
            PrototypeFactInstance object = object(each, objects);
            Recorder.Record record = new Recorder.Record(
                each.number(), each.insertedAt(), object);
            record.stored = true;
            objects.put(each.number(), object);
            recorder.restore(record);
            asKieSession().insert(object);
            asKieSession().fireAllRules(match -> false);
        }
        if (!kept.isEmpty()) {
            clock.setStartupTime(last);
        }
        atStart = null;
    }

    private PrototypeFactInstance object(
            Kept each, Map<Long, PrototypeFactInstance> objects) {
        Map<String, Object> values =
            JsonMapper.readValueAsMapOfStringAndObject(each.text());
        switch (each.kind()) {
            case 'F':
                return RulesModelUtil.mapToFact(values, false);
            case 'E':
                return withExpiry(RulesModelUtil.mapToFact(values, true));
            default:
                Long expires = each.expires() < 0 ? null : each.expires();
                return OnceAbstractTimeConstraint.recreateControlEvent(
                    Control.restored(values, objects), expires);
        }
    }

    private PrototypeFactInstance withExpiry(PrototypeFactInstance event) {
        ((PrototypeEventInstance) event).withExpiration(
            rules.getEventsTtl().getAmount(),
            rules.getEventsTtl().getTimeUnit());
        return event;
    }

    /** The text of a record, from which it can be put back. */
    Kept kept(Recorder.Record record) {
        char kind = record.kind();
        long expires = -1;
        Map<String, Object> values = record.object.asMap();
        if (kind == 'C') {
            long duration = ((PrototypeEventInstance) record.object)
                .getExpiration();
            expires = duration == Long.MAX_VALUE ? -1 : duration;
            values = Control.stored(values, recorder);
        }
        return new Kept(
            record.number, kind, record.insertedAt, expires,
            Json.text(values));
    }

    /** Has Drools tell of events that match nothing and are let go. */
    private static final class Evaluator extends SyncRulesEvaluator {
        private Recorder recorder;

        Evaluator(RulesExecutorSession session) {
            super(session);
        }

        @Override
        protected void processDiscardedFact(InternalFactHandle handle) {
            recorder.removed(handle);
        }
    }

    /** Only a subclass may make sessions. */
    private static final class Factory extends RulesExecutorFactory {
        static RulesExecutorSession session(RulesSet rules) {
            RulesExecutionController controller =
                new RulesExecutionController();
            return new RulesExecutorSession(
                rules, createKieSession(rules, controller), controller,
                ID_GENERATOR.getAndIncrement());
        }
    }
}

package ansible_rulebook_ha;

import java.lang.reflect.Member;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/** What this package relies on in drools_jpy, so that it can be checked. */
public final class Names {

    private static final String API =
        "org.drools.ansible.rulebook.integration.api.";

    private static final String[][] RELIED_ON = {
        {API + "RulesExecutor", "rulesEvaluator", "processEvents",
            "processFacts", "processRetractMatchingFacts", "advanceTime",
            "fire", "getAllFactsAsMap", "getSessionStats", "dispose",
            "getId", "asKieSession"},
        {API + "RulesExecutorFactory", "createKieSession", "ID_GENERATOR"},
        {API + "RuleConfigurationOption", "USE_PSEUDO_CLOCK"},
        {API + "RuleFormat", "JSON"},
        {API + "RuleNotation$CoreNotation", "INSTANCE", "toRulesSet"},
        {API + "domain.RuleMatch", "asList"},
        {API + "domain.RulesSet", "hasTemporalConstraint", "withOptions",
            "getEventsTtl", "getRules"},
        {API + "domain.Rule", "getName", "getCondition", "isEnabled"},
        {API + "domain.conditions.MapCondition", "getMap"},
        {API + "domain.temporal.OnceAbstractTimeConstraint",
            "recreateControlEvent"},
        {API + "domain.temporal.TimeAmount", "getAmount", "getTimeUnit"},
        {API + "rulesengine.RulesExecutionController"},
        {API + "rulesengine.RulesExecutorSession", "asKieSession"},
        {API + "rulesengine.SyncRulesEvaluator", "processDiscardedFact"},
        {API + "rulesmodel.PrototypeFactory", "SYNTHETIC_PROTOTYPE_NAME"},
        {API + "rulesmodel.RulesModelUtil", "mapToFact", "factToMap"},
        {"com.fasterxml.jackson.core.StreamWriteConstraints", "builder"},
        {"org.drools.ansible.rulebook.integration.ha.api.HAEncryption",
            "encrypt", "decrypt", "isEncrypted"},
        {"org.drools.core.common.ReteEvaluator",
            "setWorkingMemoryActionListener"},
        {"org.drools.core.common.InternalFactHandle", "forEachRightTuple"},
        {"org.drools.core.impl.WorkingMemoryReteExpireAction",
            "getFactHandle"},
        {"org.drools.core.reteoo.LeftTuple", "getBlockedNext",
            "getFactHandle", "setBlocker"},
        {"org.drools.core.reteoo.RightTuple", "getBlocked", "removeBlocked",
            "addBlocked"},
        {"org.drools.core.time.impl.PseudoClockScheduler", "getCurrentTime",
            "getTimeToNextJob", "advanceTime", "setStartupTime"},
        {"org.kie.api.prototype.Prototype", "UNDEFINED_VALUE"},
        {"org.kie.api.prototype.PrototypeEventInstance", "getExpiration",
            "withExpiration"},
    };

    private Names() { }

    /** The first name that is not there, or null if all are. */
    public static String missing() {
        for (String[] names : RELIED_ON) {
            List<String> present;
            try {
                present = members(Class.forName(names[0]));
            } catch (ClassNotFoundException | LinkageError error) {
                return names[0];
            }
            for (int each = 1; each < names.length; each++) {
                if (!present.contains(names[each])) {
                    return names[0] + "." + names[each];
                }
            }
        }
        return null;
    }

    private static List<String> members(Class<?> type) {
        List<String> found = new ArrayList<>();
        for (Class<?> each = type; each != null;
                each = each.getSuperclass()) {
            Stream.of(each.getDeclaredMethods(), each.getDeclaredFields())
                .flatMap(Arrays::stream)
                .map(member -> ((Member) member).getName())
                .forEach(found::add);
        }
        for (Class<?> each : type.getInterfaces()) {
            Stream.of(each.getMethods()).map(Member::getName)
                .forEach(found::add);
        }
        return found;
    }
}
